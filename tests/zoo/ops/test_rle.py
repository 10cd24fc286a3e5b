import numpy as np
import pytest
from pycocotools import mask as official

from zoo.ops import rle
from zoo.ops.polygons import from_polygons

# The `decode` of pycocotools 2.0.11 gives this warning with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def draw_polygons(seed: int) -> tuple[list[list[float]], np.ndarray, int, int]:
    """Polygons that may leave the image, lie on pixel borders, or cross; up to five masks."""
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(1, 60, 2))
    polygons, owners = [], []
    for owner in range(rng.integers(1, 6)):
        for _ in range(rng.integers(1, 4)):
            points = rng.uniform(-10, 70, (rng.integers(3, 9), 2))
            if seed % 3 == 0:
                points = np.round(points)
            if seed % 5 == 0:
                points = np.round(points * 5) / 5
            if seed % 7 == 0:
                points = np.clip(points, 0, [width, height])
            polygons.append(points.ravel().tolist())
            owners.append(owner)
    return polygons, np.array(owners), height, width


def test_everything_equals_maskapi():
    for seed in range(300):
        polygons, owners, height, width = draw_polygons(seed)
        n = owners[-1] + 1
        sizes = np.tile([[height, width]], (n, 1))
        masks = from_polygons(polygons, owners, sizes)
        expected = [
            official.merge(
                official.frPyObjects(
                    [p for p, o in zip(polygons, owners, strict=True) if o == i], height, width
                )
            )
            for i in range(n)
        ]
        arrays = masks.to_arrays()
        for array, theirs in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(array, official.decode(theirs))
        np.testing.assert_array_equal(masks.areas(), official.area(expected))
        filled = masks.areas() > 0
        np.testing.assert_array_equal(masks.boxes_xywh()[filled], official.toBbox(expected)[filled])
        assert not masks.boxes_xywh()[~filled].any()
        read = rle.from_strings([theirs["counts"] for theirs in expected], sizes)
        np.testing.assert_array_equal(read.areas(), masks.areas())
        a, b = (m.ravel() for m in np.indices((n, n)))
        common = [(arrays[i] & arrays[j]).sum() for i, j in zip(a, b, strict=True)]
        np.testing.assert_array_equal(rle.intersections(masks, read, a, b), common)


def test_arrays_and_strings_round_trip():
    rng = np.random.default_rng(0)
    arrays = rng.random((20, 13, 17)) < rng.random((20, 1, 1))
    arrays[0], arrays[1] = False, True
    masks = rle.from_arrays(arrays)
    np.testing.assert_array_equal(masks.to_arrays(), arrays)
    strings = rle.to_strings(masks)
    theirs = official.encode(np.asfortranarray(arrays.transpose(1, 2, 0).astype(np.uint8)))
    assert [s.encode() for s in strings] == [t["counts"] for t in theirs]
    np.testing.assert_array_equal(rle.from_strings(strings, masks.sizes).to_arrays(), arrays)


def test_take_and_concatenate():
    arrays = np.random.default_rng(0).random((6, 5, 4)) < 0.5
    masks = rle.from_arrays(arrays)
    rows = np.array([4, 0, 0, 5])
    np.testing.assert_array_equal(masks.take(rows).to_arrays(), arrays[rows])
    joined = rle.Masks.concatenate([masks, masks.take(rows[:0]), masks.take(rows)])
    np.testing.assert_array_equal(joined.to_arrays(), np.concatenate([arrays, arrays[rows]]))


@pytest.mark.parametrize("string", ["", "0P", "~~"])
def test_damaged_strings_are_named(string):
    with pytest.raises(rle.MaskError) as error:
        rle.from_strings(["<1", string], np.array([[3, 4], [3, 4]]))
    assert 1 in error.value.rows


def test_counts_must_cover_the_image():
    with pytest.raises(rle.MaskError, match="cover 11 pixels of an image of 3 x 4"):
        rle.from_counts(np.array([5, 6]), np.array([2]), np.array([[3, 4]]))
