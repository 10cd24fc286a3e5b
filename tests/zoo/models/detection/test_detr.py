from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

import zoo
from train.config import Config, ModelConfig, override
from train.tasks.detection import Detection
from zoo.models.detection.detr.loss import DetrLoss
from zoo.models.detection.detr.masks import MaskAttention
from zoo.models.detection.detr.model import Detr
from zoo.registry import family_of
from zoo.types import InputError
from zoo.weights.tree import abstract_leaves

BODY = {"num_blocks": (1, 1), "stage_dims": (8, 8), "stem_dim": 8}
SMALL = {
    "num_classes": 3,
    "num_queries": 5,
    "backbone": "resnet_nano",
    "backbone_fields": BODY,
    "hidden_dim": 16,
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "mlp_dim": 16,
}


@cache
def small():
    """A small model, its variables, and two images of different sizes in one bucket."""
    return drawn(Detr(**SMALL))


def drawn(model):
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (2, 32, 48, 3))
    valid = jnp.zeros((2, 32, 48), bool).at[0, :21].set(True).at[1, :, :30].set(True)
    shapes = jax.eval_shape(model.init, keys[1], images, valid)
    rng = np.random.default_rng(0)
    leaves = jax.tree.map(lambda x: jnp.float32(rng.normal(1.0, 0.3, x.shape)), shapes)
    matrices = jax.tree.map(lambda x: x - (x.ndim > 1), leaves)  # keeps norm scales near 1
    return model, matrices, images, valid


@cache
def compiled():
    """The small model's `apply`."""
    return jax.jit(small()[0].apply)


def assert_close(a, b, atol=1e-5):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=atol), a, b)


@pytest.mark.parametrize(
    "case", ["detr_fair", "detr_fair_dc5", "detr_huggingface", "detr_huggingface_panoptic"]
)
def test_goldens_depend_on_query_and_image(golden, case):
    """Otherwise `tests/zoo/models/test_goldens.py` could not find an error in them."""
    outputs = golden(case).outputs
    assert {"logits", "boxes_cxcywh"} <= set(outputs)
    for expected in outputs.values():
        assert expected.std(axis=-2).max() > 1e-3  # depends on query or position
    first, second = outputs["boxes_cxcywh"]
    assert np.abs(first - second).max() > 1e-3


def test_output_shapes_at_full_size():
    images = jax.ShapeDtypeStruct((2, 100, 133, 3), jnp.float32)
    model = zoo.create("detr_resnet50_panoptic", num_classes=7)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert output.logits.shape == (2, 100, 8)
    assert output.boxes_cxcywh.shape == (2, 100, 4)
    assert output.auxiliary_logits.shape == (5, 2, 100, 8)
    assert output.auxiliary_boxes_cxcywh.shape == (5, 2, 100, 4)
    assert output.masks.shape == (2, 100, 25, 34)


def test_an_image_depends_on_its_bucket_alone():
    _, variables, images, valid = small()
    apply = compiled()
    together = apply(variables, images, valid)
    other = apply(variables, images.at[1].set(3.0), valid.at[1].set(True))
    alone = apply(variables, images[:1], valid[:1])
    for name in ("logits", "boxes_cxcywh"):
        assert_close(getattr(together, name)[0], getattr(other, name)[0])
        assert_close(getattr(together, name)[:1], getattr(alone, name))
        assert np.abs(getattr(together, name)[1] - getattr(other, name)[1]).max() > 1e-3


def test_pixels_of_the_padding_do_not_matter():
    _, variables, images, valid = small()
    apply = compiled()
    zeros = jnp.where(valid[..., None], images, 0)
    assert_close(apply(variables, images, valid), apply(variables, zeros, valid), atol=0)
    assert np.abs(apply(variables, images).logits - apply(variables, zeros).logits).max() > 1e-4


def test_without_valid_all_pixels_are():
    _, variables, images, valid = small()
    apply = compiled()
    assert_close(apply(variables, images), apply(variables, images, jnp.ones_like(valid)), atol=0)


def test_an_image_of_padding_alone_is_finite():
    _, variables, images, valid = small()
    output = compiled()(variables, images, jnp.zeros_like(valid))
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(output))


def test_dropout_is_for_training():
    model, variables, images, valid = small()
    model = model.clone(dropout=0.5)
    train = jax.jit(partial(model.apply, train=True))
    draws = [
        train(variables, images, valid, rngs={"dropout": jax.random.key(i)}) for i in (1, 1, 2)
    ]
    assert_close(draws[0], draws[1], atol=0)
    assert np.abs(draws[0].logits - draws[2].logits).max() > 1e-3
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(partial(model.apply, train=True), variables, images, valid)


def test_a_vit_can_stand_in():
    fields = {"image_size": 32, "patch_size": 8, "num_layers": 1}
    fields = {"backbone": "vit_nano_patch4_32", "backbone_fields": fields, "pre_norm": True}
    model, variables, images, valid = drawn(Detr(**{**SMALL, **fields}))

    def loss(params):
        return (model.apply({"params": params}, images, valid).boxes_cxcywh ** 2).sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    assert all(bool((x != 0).any()) for x in jax.tree.leaves(grads["body"]))


def test_another_level_of_the_backbone():
    coarse, variables, images, valid = small()
    fine = coarse.clone(feature_level=0)
    shapes = []
    for model in (coarse, fine):
        _, state = jax.eval_shape(
            partial(model.apply, mutable=["intermediates"]), variables, images, valid
        )
        shapes.append(state["intermediates"]["encoder_0"]["attn"]["attention"][0].shape)
    assert shapes == [(2, 2, 4 * 6, 4 * 6), (2, 2, 8 * 12, 8 * 12)]


def test_dc5_doubles_the_resolution_and_has_the_same_parameters():
    plain, dc5 = (zoo.create(f"detr_resnet50{name}") for name in ("", "_dc5"))
    assert plain.make_body().feature_strides == (4, 8, 16, 32)
    assert dc5.make_body().feature_strides == (4, 8, 16, 16)
    leaves = [abstract_leaves(model, family_of(model).example(model)) for model in (plain, dc5)]
    shapes, same = ({name: x.shape for name, x in found.items()} for found in leaves)
    assert shapes == same
    images = jax.ShapeDtypeStruct((1, 96, 160, 3), jnp.float32)
    init = partial(dc5.make_body().init_with_output, method="feature_maps")
    maps, _ = jax.eval_shape(init, jax.random.key(0), images)
    assert [x.shape[1:3] for x in maps] == [(24, 40), (12, 20), (6, 10), (6, 10)]


def test_batch_norm_is_frozen_unless_asked_for():
    assert zoo.create("detr_resnet50").make_body().norm == "frozen"
    assert (
        zoo.create("detr_resnet50", backbone_fields={"norm": "batch"}).make_body().norm == "batch"
    )
    assert zoo.create("detr_resnet50", backbone="resnet50_gn").make_body().norm == "group"


def test_wrong_backbones_are_one_line():
    images = jnp.zeros((1, 32, 32, 3))
    for fields, message in (
        ({"backbone": "resnet51"}, r"no backbone 'resnet51'; there are .*resnet101, "),
        ({"backbone_fields": {"depth": 3}}, r"backbone resnet_nano: .*depth"),
    ):
        with pytest.raises(InputError, match=message) as error:
            Detr(**{**SMALL, **fields}).init(jax.random.key(0), images)
        assert "\n" not in str(error.value)


def test_masks_need_four_maps():
    model, images = Detr(**SMALL, masks=True), jnp.zeros((1, 32, 32, 3))
    with pytest.raises(InputError, match="masks need 4 feature maps; resnet_nano has 2"):
        jax.eval_shape(model.init, jax.random.key(0), images)


def test_mask_attention_sums_to_one_over_cells_and_heads():
    keys = jax.random.split(jax.random.key(0), 3)
    queries, memory = (jax.random.normal(k, (2, n, 16)) for k, n in zip(keys, (3, 6), strict=False))
    valid = jnp.arange(6) < jnp.array([[6], [4]])
    maps, _ = MaskAttention(2).init_with_output(keys[2], queries, memory, valid[:, None, None])
    assert maps.shape == (2, 3, 6, 2)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1, rtol=1e-5)
    np.testing.assert_array_equal(maps[1, :, 4:], 0)
    assert (maps[0] > 0).all()


def test_fields_of_the_backbone_survive(tmp_path):
    model, variables, *_ = small()
    assert isinstance(model.backbone_fields, FrozenDict)
    assert hash(model) == hash(Detr(**{**SMALL, "backbone_fields": {**BODY, "num_blocks": [1, 1]}}))
    zoo.save(model, variables, tmp_path / "model.safetensors")
    again, loaded = zoo.load(tmp_path / "model.safetensors")
    assert again == model
    assert_close(variables, loaded, atol=0)


def test_fields_on_the_command_line():
    config = Config(
        recipe="r",
        model=ModelConfig("detr_nano"),
        data=None,
        task=Detection(DetrLoss()),
        optim=None,
        steps=1,
        batch_size=1,
    )
    arguments = ["--model.num_queries=7", '--model.backbone_fields={"norm": "group"}']
    config = override(config, arguments)
    model = zoo.create(config.model.name, **config.model.fields)
    assert model.num_queries == 7
    assert model.make_body().norm == "group"
