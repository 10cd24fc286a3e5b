"""R-FCN against a definition in PyTorch on drawn weights; hard examples.

`tests/zoo/models/test_goldens.py` compares the outputs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_maps_equal,
    detections_of,
    small_model,
    small_targets,
    targets_of,
)
from zoo.models.detection.parts.decode import softmax_rois
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.detection.parts.outputs import RoiSamples
from zoo.models.detection.rfcn.loss import RFCNLoss
from zoo.types import InputError


@pytest.fixture(scope="module")
def peer(golden):
    return golden("rfcn_torch")


def test_maps_anchors_and_detections_equal_the_peers(peer):
    assert_maps_equal(peer)
    output = jax.jit(peer.model.apply)(peer.variables, *peer.inputs)
    np.testing.assert_allclose(output.anchors[1], peer.groups["anchors/all"], rtol=1e-6, atol=1e-6)
    assert_boxes_equal(peer, detections_of(peer, softmax_rois))


def test_losses_of_the_hardest_regions_equal_the_peers(peer):
    """All proposals and true boxes are scored, and the five worst of each image count."""
    targets = targets_of(peer)

    @jax.jit
    def losses_of(*x):
        output = peer.model.apply(*x, targets=targets, train=True)
        assert output.proposals.shape[1] == 12 + 3
        return RFCNLoss(hardest=5)(output, targets)[0]

    losses = losses_of(peer.variables, *peer.inputs)
    assert losses["class"].weight == 10
    for name in ("class", "box"):
        expected = peer.groups[f"losses/{name}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[name].value(), expected, rtol=1e-4, err_msg=name)


def samples_of(labels, drawn):
    """Regions whose boxes are those of their objects if they are positive."""
    labels, drawn = jnp.array([labels]), jnp.array([drawn], bool)
    boxes = jnp.broadcast_to(jnp.array([8.0, 8, 30, 36]), (1, labels.shape[1], 4))
    return RoiSamples(boxes, drawn, (labels < 2) & drawn, jnp.zeros_like(labels), labels)


def test_only_the_hardest_regions_count_and_filling_never_does():
    """Of the background: losses 5, 3 and 1; of a positive one: 0 and 0.5 of its box; filling: 9."""
    logits = jnp.array([[[5.0, 0, 0], [3, 0, 0], [1, 0, 0], [0, 50, 0], [90, 0, 0]]])
    deltas = jnp.zeros((1, 5, 1, 4)).at[0, 3, 0, 0].set(1.0)
    samples = samples_of([2, 2, 2, 1, 2], [1, 1, 1, 1, 0])
    one = jax.tree.map(lambda x: x[:1], small_targets())
    each = jax.nn.logsumexp(logits[0], axis=-1) - jnp.array([0.0, 0, 0, 50, 0])
    for hardest, rows in ((2, [0, 1]), (4, range(4)), (9, range(4))):
        of_regions = jax.jit(RFCNLoss(hardest=hardest).of_regions)
        losses, metrics = of_regions(logits, deltas, samples, one)
        expected = each[np.array(rows)].sum()
        np.testing.assert_allclose(losses["class"].total, expected, rtol=1e-5)
        assert losses["class"].weight == len(rows)
        np.testing.assert_allclose(losses["box"].total, 0.5 if 3 in rows else 0.0, rtol=1e-6)
        assert metrics["positive_regions"].total == (3 in rows)
    plain = jax.jit(TwoStageLoss(box_beta=1.0).of_regions)(logits, deltas, samples, one)[0]
    np.testing.assert_allclose(losses["class"].value(), plain["class"].value(), rtol=1e-6)


def test_regions_can_be_drawn_instead():
    model = zoo.create("rfcn_nano", score_all=False)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    training = {"targets": small_targets(), "train": True, "mutable": ["batch_stats"]}
    output, _ = jax.eval_shape(partial(model.apply, **training), variables, images)
    assert output.proposals.shape == (2, 32, 4)  # `roi_sampling` of the nano


@pytest.mark.slow
def test_a_step_moves_the_maps_of_votes_and_the_last_stage():
    _, variables, losses = small_model("rfcn_nano", RFCNLoss(), "class")
    gradient, found = losses(variables["params"], small_targets())
    assert found["box"].value() > 0
    box, shortcut = gradient["box"], gradient["box"]["stage"]["stages_2_0"]["shortcut_conv"]
    for layer in (shortcut, box["reduce"], box["logits"], gradient["body"]["stem_conv"]):
        assert all(jnp.any(x) for x in jax.tree.leaves(layer))


def test_the_last_stage_has_the_stride_of_the_one_before_it():
    model = zoo.create("rfcn_resnet50")
    images = jax.ShapeDtypeStruct((1, 96, 64, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert shapes["box"]["logits"]["kernel"].shape == (1, 1, 1024, 49 * 21)
    assert shapes["box"]["deltas"]["kernel"].shape == (1, 1, 1024, 49 * 4)
    assert shapes["rpn"]["head"]["conv_0"]["kernel"].shape == (3, 3, 1024, 512)
    body, stage = model.body_and_stage()
    assert body.feature_strides == (4, 8, 16)
    variables = jax.eval_shape(stage().init, jax.random.key(0), jnp.zeros((1, 6, 4, 1024)))
    found = jax.eval_shape(stage().apply, variables, jnp.zeros((1, 6, 4, 1024)))
    assert found.shape == (1, 6, 4, 2048)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"neck": "fpn"}, "no pyramid"),
        ({"backbone": "mobilenetv3_nano", "backbone_fields": {}}, "needs a ResNet"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(InputError, match=message):
        model = zoo.create("rfcn_nano", **fields)
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
