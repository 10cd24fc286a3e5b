import jax
import numpy as np
import pytest

from zoo.ops.instance_masks import full_size_masks


@pytest.mark.parametrize(
    ("canvas", "size", "original"),
    [((64, 96), (64, 90), (48, 68)), ((32, 32), (20, 32), (61, 97)), ((40, 24),) * 3],
)
def test_masks_are_interpolated_cut_and_brought_to_the_images_size(canvas, size, original):
    logits = np.random.default_rng(0).normal(size=(5, canvas[0] // 4, canvas[1] // 4))
    found = full_size_masks(logits, canvas, size, original)
    fine = jax.image.resize(logits.astype(np.float32), (5, *canvas), "linear")
    rows, columns = (np.arange(n) * s // n for n, s in zip(original, size, strict=True))
    expected = np.asarray(fine)[:, rows][:, :, columns]
    clear = abs(expected) > 1e-5  # others may round to either side
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(found[clear], expected[clear] > 0)


def test_no_objects_have_no_masks():
    assert full_size_masks(np.zeros((0, 8, 8)), (32, 32), (32, 32), (20, 30)).shape == (0, 20, 30)
