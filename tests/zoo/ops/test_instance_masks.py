from pathlib import Path

import jax
import numpy as np
import pytest

from tests.roi import draw_boxes, golden
from zoo.ops.instance_masks import full_size_masks, paste_binary_masks, paste_masks

GOLDEN = Path(__file__).parents[2] / "golden" / "fair_masks.npz"


@pytest.mark.parametrize("image", [0, 1])
def test_masks_are_those_of_detrs_authors(image):
    golden = np.load(GOLDEN)
    size, original = (tuple(golden[name][image].tolist()) for name in ("sizes", "original_sizes"))
    found = full_size_masks(golden["logits"][image], (64, 96), size, original)
    np.testing.assert_array_equal(found, golden[f"masks/{image}"])


def test_an_image_that_is_not_resized_keeps_every_pixel():
    logits = np.random.default_rng(0).normal(size=(5, 10, 6)).astype(np.float32)
    found = full_size_masks(logits, (40, 24), (40, 24), (40, 24))
    np.testing.assert_array_equal(found, jax.image.resize(logits, (5, 40, 24), "linear") > 0)


def test_no_objects_have_no_masks():
    assert full_size_masks(np.zeros((0, 8, 8)), (32, 32), (32, 32), (20, 30)).shape == (0, 20, 30)


def draw_masks(seed):
    """Masks, and boxes inside, across and beyond the border of an image of 24 x 30, and empty."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([draw_boxes(rng, 12, 24, 30), [[3.25, 4.5, 3.5, 4.75]]])
    return rng.random((13, 7, 7)).astype(np.float32), boxes.astype(np.float32)


def test_masks_are_pasted_as_by_torchvision():
    peer = {name: np.asarray(x) for name, x in golden("paste").items()}
    found = paste_masks(peer["masks"], peer["boxes"], (24, 30), "whole_pixels")
    np.testing.assert_allclose(found, peer["pasted"], atol=1e-6)


def test_masks_are_sampled_at_the_centres_of_pixels():
    """As torch's ``grid_sample`` with zeros around, which detectron2 uses, pixel by pixel."""
    masks, boxes = draw_masks(0)
    found = paste_masks(masks, boxes, (24, 30))
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    for mask, pasted, (left, top, right, bottom) in zip(padded, found, boxes, strict=True):
        if right <= left or bottom <= top:
            assert not pasted.any()
            continue
        for row, column in np.ndindex(24, 30):
            y = (row + 0.5 - top) / (bottom - top) * 7 + 0.5
            x = (column + 0.5 - left) / (right - left) * 7 + 0.5
            expected = 0.0
            if 0 < y < 8 and 0 < x < 8:
                i, j = int(y), int(x)
                square = mask[i : i + 2, j : j + 2]
                expected = [i + 1 - y, y - i] @ square @ [j + 1 - x, x - j]
            np.testing.assert_allclose(pasted[row, column], expected, atol=2e-5)


@pytest.mark.parametrize("paste", ["centres", "whole_pixels"])
def test_pasting_under_jit_and_object_by_object(paste):
    masks, boxes = draw_masks(1)
    expected = paste_masks(masks, boxes, (24, 30), paste)
    jitted = jax.jit(paste_masks, static_argnums=(2, 3))
    found = jitted(jax.numpy.array(masks), jax.numpy.array(boxes), (24, 30), paste)
    assert isinstance(found, jax.Array) and isinstance(expected, np.ndarray)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    binary = paste_binary_masks(masks, boxes, (24, 30), paste, 0.4)
    np.testing.assert_array_equal(binary, expected >= 0.4)
    assert binary.any() and not binary.all()


def test_nothing_to_paste():
    none = np.zeros((0, 7, 7), np.float32), np.zeros((0, 4), np.float32)
    assert paste_masks(*none, (4, 5)).shape == (0, 4, 5)
    assert paste_binary_masks(*none, (4, 5)).shape == (0, 4, 5)
