import numpy as np
import pytest

from zoo.ops.tiles import Tiling, cut_tiles, join_tiles

TILINGS = [
    Tiling((16, 24)),
    Tiling((16, 16), multiple=8),
    Tiling((16, 20), overlap=5, multiple=2),
    Tiling((30, 28), margin=6, multiple=4),
    Tiling((40, 40), margin=15, overlap=2, multiple=8),
]


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("size", [(1, 1), (7, 16), (16, 24), (33, 50), (64, 17)])
def test_what_is_cut_is_joined_again(tiling, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    tiles = cut_tiles(image, tiling)
    assert tiles.shape[1:] == (*tiling.size, 3)
    m = tiling.margin
    inner = tiles[:, m : tiles.shape[1] - m, m : tiles.shape[2] - m]
    np.testing.assert_array_equal(join_tiles(inner, tiling, *size), image)


@pytest.mark.parametrize("tiling", TILINGS)
def test_windows_are_parts_of_the_mirrored_image(tiling):
    image = np.random.default_rng(0).normal(size=(33, 50))
    mirrored = np.pad(image, 64, mode="reflect")
    for (top, left), tile in zip(tiling.offsets(33, 50), cut_tiles(image, tiling), strict=True):
        assert top % tiling.multiple == left % tiling.multiple == 0
        y, x = 64 + top - tiling.margin, 64 + left - tiling.margin
        whole = mirrored[y : y + tiling.size[0], x : x + tiling.size[1]]
        np.testing.assert_array_equal(tile, whole)


def test_windows_are_few_spread_and_overlap():
    tiling = Tiling((16, 16), overlap=4, multiple=4)
    tops = sorted({top for top, _ in tiling.offsets(49, 16)})
    assert tops == [0, 12, 24, 36]  # the last window ends at 52, because 49 is no multiple of 4
    assert Tiling((16, 16)).offsets(16, 17) == [(0, 0), (0, 1)]


def test_each_pixel_is_from_the_window_in_whose_middle_it_lies_most():
    tiling = Tiling((8, 8), overlap=4)
    outputs = np.broadcast_to(np.arange(2)[:, None, None], (2, 8, 8))
    joined = join_tiles(outputs, tiling, 8, 12)
    np.testing.assert_array_equal(joined[0], [0] * 6 + [1] * 6)


def test_an_overlap_that_leaves_no_step():
    with pytest.raises(ValueError, match=r"cannot overlap by 10 px in steps of 8 px"):
        Tiling((16, 16), overlap=10, multiple=8)
