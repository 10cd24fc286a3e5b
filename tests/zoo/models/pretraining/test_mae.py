import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.losses.reconstruction import reconstruction_loss
from zoo.ops.patches import patchify

NANO = "mae_vit_nano_patch4"
TINY = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 32, "image_size": 16}
TINY |= {"decoder_hidden_dim": 8, "decoder_num_layers": 1, "decoder_num_heads": 2}


@pytest.fixture(scope="module")
def tiny():
    """A tiny model, its variables and three images."""
    model = zoo.create(NANO, **TINY, decoder_mlp_dim=16)
    images = jax.random.normal(jax.random.key(0), (3, 16, 16, 3))
    return model, jax.jit(model.init)(jax.random.key(1), images), images


@pytest.mark.parametrize("case", ["mae_huggingface", "mae_fair"])
def test_the_loss_is_the_peers_for_the_same_mask(golden, case):
    peer = golden(case)
    images, visible = peer.inputs
    output = jax.jit(peer.model.apply)(peer.variables, images, visible)
    np.testing.assert_array_equal(output.visible, visible)
    patches = patchify(images, peer.model.patch_size)
    for name, norm_pix_loss in (("loss/plain", False), ("loss/normalised", True)):
        loss = reconstruction_loss(output.patches, patches, visible, norm_pix_loss=norm_pix_loss)
        np.testing.assert_allclose(loss, peer.groups[name], rtol=1e-5)


def test_masks_come_from_the_mask_stream(tiny):
    model, variables, images = tiny
    apply = jax.jit(lambda key: model.apply(variables, images, rngs={"mask": key}))
    first, again, other = (apply(jax.random.key(seed)) for seed in (2, 2, 3))
    np.testing.assert_array_equal(first.visible.sum(axis=1), int(16 * 0.25))
    np.testing.assert_array_equal(first.visible, again.visible)
    np.testing.assert_array_equal(first.patches, again.patches)
    assert (first.visible != other.visible).any()
    assert (first.visible[0] != first.visible[1]).any()
    given = model.apply(variables, images, first.visible)
    np.testing.assert_allclose(given.patches, first.patches, atol=1e-5)
    with pytest.raises(Exception, match='needs PRNG for "mask"'):
        model.apply(variables, images)


@pytest.mark.parametrize(("ratio", "count"), [(0.75, 4), (0.5, 8), (0.9, 1), (0.0, 16)])
def test_as_many_visible_as_the_reference_keeps(tiny, ratio, count):
    model, variables, images = tiny
    model = model.clone(mask_ratio=ratio)
    output = jax.jit(model.apply)(variables, images, rngs={"mask": jax.random.key(0)})
    assert set(output.visible.sum(axis=1).tolist()) == {count}
    assert jnp.isfinite(output.patches).all()


def test_what_is_hidden_is_not_seen(tiny):
    model, variables, images = tiny
    visible = model.apply(variables, images, rngs={"mask": jax.random.key(0)}).visible
    hidden = jnp.repeat(jnp.repeat((~visible).reshape(3, 4, 4), 4, axis=1), 4, axis=2)
    noise = images + 5 * hidden[..., None]
    found, same = (model.apply(variables, x, visible).patches for x in (images, noise))
    np.testing.assert_array_equal(found, same)
    changed = model.apply(variables, images + 5 * ~hidden[..., None], visible).patches
    assert (jnp.abs(changed - found).max(axis=(1, 2)) > 1e-3).all()


def test_any_equal_number_of_patches_can_be_shown(tiny):
    model, variables, images = tiny
    visible = jnp.arange(16) < jnp.array([[7], [7], [7]])
    assert jnp.isfinite(model.apply(variables, images, visible).patches).all()
    for wrong in (jnp.arange(16) < jnp.array([[7], [6], [7]]), jnp.zeros((3, 16), bool)):
        with pytest.raises(ValueError, match="every row must have equally many, and at least one"):
            model.apply(variables, images, wrong)
    with pytest.raises(ValueError, match=r"visible is \(3, 9\), but 3 images of 16 patches"):
        model.apply(variables, images, jnp.ones((3, 9), bool))


def test_another_number_in_a_compiled_call_is_never_a_wrong_answer(tiny):
    model, variables, images = tiny
    visible = jnp.arange(16) < jnp.array([[4], [5], [3]])
    patches = jax.jit(model.apply)(variables, images, visible).patches
    assert jnp.isfinite(patches[0]).all()
    assert jnp.isnan(patches[1:]).all()


@pytest.mark.parametrize("ratio", [1.0, -0.1])
def test_a_ratio_that_cannot_be(tiny, ratio):
    model, variables, images = tiny
    with pytest.raises(ValueError, match=r"must be in 0\.\.1 and below 1"):
        model.clone(mask_ratio=ratio).apply(variables, images, rngs={"mask": jax.random.key(0)})


def test_a_ratio_that_hides_everything(tiny):
    model, variables, images = tiny
    with pytest.raises(ValueError, match=r"mask_ratio=0\.95 hides all 16 patches"):
        model.clone(mask_ratio=0.95).apply(variables, images, rngs={"mask": jax.random.key(0)})


def test_the_encoder_is_a_vit(tiny):
    model, variables, images = tiny
    fields = {k: v for k, v in TINY.items() if not k.startswith("decoder")}
    vit = zoo.create("vit_nano_patch4_32", **fields, num_classes=0, positions="fixed")
    encoder = {collection: tree["encoder"] for collection, tree in variables.items()}
    tokens = vit.apply(encoder, images, method="tokens")
    (map_,) = model.apply(variables, images, method="feature_maps")
    np.testing.assert_allclose(map_.reshape(3, 16, 16), tokens[:, 1:], atol=1e-6)
    features = model.apply(variables, images, method="features")
    np.testing.assert_allclose(features, tokens[:, 1:].mean(axis=1), atol=1e-6)


def test_kept_patches_are_those_of_the_whole(tiny):
    """Without blocks tokens do not mix: the tokens of kept patches equal those of the whole."""
    fields = {k: v for k, v in TINY.items() if not k.startswith("decoder")}
    vit = zoo.create("vit_nano_patch4_32", **{**fields, "num_layers": 0}, num_classes=0)
    images = tiny[2]
    variables = vit.init(jax.random.key(0), images)
    kept = jnp.array([[0, 3, 5], [1, 2, 15], [7, 8, 9]])
    some = vit.apply(variables, images, kept, method="tokens")
    tokens = vit.apply(variables, images, method="tokens")
    np.testing.assert_array_equal(some[:, 0], tokens[:, 0])
    expected = np.take_along_axis(np.asarray(tokens[:, 1:]), np.asarray(kept)[:, :, None], axis=1)
    np.testing.assert_allclose(some[:, 1:], expected, atol=1e-6)


def test_images_of_another_size(tiny):
    model, variables, _ = tiny
    images = jnp.ones((2, 8, 24, 3))
    output = jax.jit(model.apply)(variables, images, rngs={"mask": jax.random.key(0)})
    assert output.patches.shape == (2, 12, 48)


@pytest.mark.parametrize("name", ["mae_vit_base_patch16", "mae_vit_huge_patch14"])
def test_full_sizes(name):
    model = zoo.create(name)

    def outputs(images):
        output, _ = model.init_with_output(jax.random.key(0), images)
        return output.patches, output.visible

    patches, visible = jax.eval_shape(outputs, jnp.zeros((2, 224, 224, 3)))
    count = (224 // model.patch_size) ** 2
    assert patches.shape == (2, count, 3 * model.patch_size**2)
    assert visible.shape == (2, count)
