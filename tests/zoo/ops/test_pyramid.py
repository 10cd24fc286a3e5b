import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.pyramid import image_pyramid, pyramid_sizes, window_boxes


@pytest.mark.parametrize("largest", [1.0, 1.7])
def test_sizes_fall_by_a_fixed_factor_until_the_window_does_not_fit(largest):
    sizes = pyramid_sizes((120, 200), (30, 64), per_octave=5, largest=largest)
    scales = largest * 2 ** (-np.arange(len(sizes) + 1) / 5)
    assert sizes == tuple((round(120 * s), round(200 * s)) for s in scales[:-1])
    assert all(height >= 30 and width >= 64 for height, width in sizes)
    assert round(120 * scales[-1]) < 30 or round(200 * scales[-1]) < 64


def test_sizes_are_distinct():
    sizes = pyramid_sizes((10, 12), (3, 3), per_octave=16)
    assert len(set(sizes)) == len(sizes) < 16 * np.log2(10 / 3)


def test_no_size_fits():
    assert pyramid_sizes((10, 12), (11, 5)) == ()


def test_boxes_are_where_the_windows_are_in_the_original():
    """In an image whose values are coordinates, the mean of a window is the centre of its box.

    Not at the borders, where resizing repeats the outermost pixels, nor with a half pixel's error:
    that would be 0.5 px. Rounding of the antialiasing filter's weights allows 0.02 px.
    """
    original = (90, 130)
    places = np.stack(np.indices(original)[::-1] + 0.5, axis=-1)  # x, y of the pixels' centres
    for size in pyramid_sizes(original, (20, 20), per_octave=1, largest=1.6):
        (level,) = image_pyramid(jnp.asarray(places[None], jnp.float32), (size,))
        assert level.shape == (1, *size, 2)
        grid = (size[0] - 10) // 3 + 1, (size[1] - 8) // 3 + 1
        boxes = window_boxes(grid, (10, 8), 3, size, original)
        assert boxes.dtype == np.float32
        windows = np.lib.stride_tricks.sliding_window_view(level[0], (10, 8), axis=(0, 1))
        centres = windows[::3, ::3].mean((-1, -2))
        inside = np.s_[1:-1, 1:-1]
        found = ((boxes[..., :2] + boxes[..., 2:]) / 2)[inside]
        assert found.size
        np.testing.assert_allclose(found, centres[inside], atol=0.02)


def test_the_windows_cover_the_image():
    boxes = window_boxes((5, 4), (6, 5), 2, scaled=(14, 11), original=(29, 21))
    np.testing.assert_allclose(boxes.min((0, 1))[:2], 0)
    np.testing.assert_allclose(boxes.max((0, 1))[2:], [21, 29], rtol=1e-6)
