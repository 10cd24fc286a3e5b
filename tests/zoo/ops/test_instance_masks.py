from pathlib import Path

import jax
import numpy as np
import pytest

from zoo.ops.instance_masks import full_size_masks

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
