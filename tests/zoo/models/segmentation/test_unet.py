from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.models.segmentation.parts.conv_block import Padding
from zoo.ops.tiles import Tiling, cut_tiles, join_tiles
from zoo.types import InputError, check_choice


def output_shape(model, *size):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    return logits.shape


def test_the_papers_sizes():
    model = zoo.create("unet")
    assert output_shape(model, 572, 572) == (1, 388, 388, 2)
    assert (model.input_side(388), model.input_side(389), model.margin) == (572, 588, 92)


@pytest.mark.parametrize(("depth", "padding"), [(1, "valid"), (3, "valid"), (2, "same")])
def test_sizes_that_a_model_takes(depth, padding):
    model = zoo.create("unet", depth=depth, padding=padding, base_dim=2, num_classes=5)
    least = model.input_side(1)
    for more in (0, 1, 2):
        height, width = least + more * model.multiple, least
        outputs = (height - 2 * model.margin, width - 2 * model.margin)
        assert output_shape(model, height, width) == (1, *outputs, 5)
        assert model.input_side(outputs[0]) == height
    for side in (least - model.multiple, least + 1, least + 3 * model.multiple - 1):
        with pytest.raises(ValueError, match=f"sides of this U-Net are {least} and multiples of"):
            output_shape(model, side, least)


@pytest.mark.parametrize(("name", "features"), [("unet_resnet34", 16), ("unet_nano", 32)])
def test_zero_classes_give_features(name, features):
    model = zoo.create(name, num_classes=0)
    assert output_shape(model, 64, 96) == (1, 64, 96, features)


def test_a_vit_as_backbone():
    model = zoo.create("unet_resnet34", backbone="vit_nano_patch4_32", decoder_dims=(8, 4))
    assert output_shape(model, 32, 40) == (1, 32, 40, 2)


def test_names_that_are_unknown():
    with pytest.raises(ValueError, match=r"no backbone 'resnet'; there are .*resnet34"):
        output_shape(zoo.create("unet_resnet34", backbone="resnet"), 32, 32)
    with pytest.raises(ValueError, match="padding 'full' is not one of valid, same"):
        check_choice("padding", "full", Padding)  # the tests' type checks refuse such a field


def tiled_and_whole(model, size, tile, seed=0):
    """Logits of a random image computed in windows, and of the mirrored image computed at once."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(*size, 3)).astype(np.float32)
    side = model.input_side(1)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, side, side, 3)))
    head = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = head + rng.normal(size=head.shape)
    apply = jax.jit(partial(model.apply, variables))
    tiling = Tiling(tile, model.margin, multiple=model.multiple)
    outputs = np.concatenate([apply(window[None]) for window in cut_tiles(image, tiling)])
    sides = [model.input_side(n) for n in size]
    far = [side - n - model.margin for side, n in zip(sides, size, strict=True)]
    mirrored = np.pad(image, [*((model.margin, b) for b in far), (0, 0)], mode="reflect")
    whole = np.asarray(apply(mirrored[None]))[0, : size[0], : size[1]]
    return join_tiles(outputs, tiling, *size), whole


def test_overlapping_tiles_equal_the_mirrored_whole():
    model = zoo.create("unet", depth=3, base_dim=8)
    tiled, whole = tiled_and_whole(model, (150, 107), (124, 140))
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.slow
def test_the_papers_unet_on_an_image_of_1000_by_700():
    tiled, whole = tiled_and_whole(zoo.create("unet"), (700, 1000), (572, 572))
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


def test_another_number_of_classes_gives_a_new_head_alone(golden, tmp_path):
    peer = golden("backbone_unet_smp")
    path = tmp_path / "weights.npz"
    np.savez(path, **peer.weights)
    with pytest.raises(InputError, match="head/kernel"):
        fields = {name: value for name, value in peer.fields.items() if name != "num_classes"}
        zoo.load(peer.name, path, **fields)
    fields = {**peer.fields, "num_classes": 7}
    _, variables, report = zoo.load_with_report(peer.name, path, **fields)
    assert report.source == "smp"
    assert set(report.reinitialised) == {"params/head/kernel", "params/head/bias"}
    assert variables["params"]["head"]["kernel"].shape == (3, 3, 4, 7)
