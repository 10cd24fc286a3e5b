import math

import numpy as np
import pytest

from tests.roi import golden
from zoo.ops.anchors import Anchors

GRIDS = [(3, 5), (2, 3)]
RATIOS = (0.5, 1.0, 2.0)


def test_torchvisions():
    peer = golden("anchors")
    sizes = tuple(map(tuple, peer["sizes"].tolist()))
    anchors = Anchors(sizes, RATIOS, order="ratio", rounded=True)
    grids = [tuple(grid) for grid in peer["grids"].tolist()]
    found = anchors.per_level(grids, tuple(peer["image"].tolist()))
    assert [len(x) for x in found] == [h * w * anchors.num_per_cell for h, w in grids]
    np.testing.assert_array_equal(np.concatenate(found), peer["boxes"])


def test_torchvisions_strides_are_those_of_the_map():
    anchors = Anchors(((512.0,),), (1.0,), rounded=True)
    (found,) = anchors.per_level([(13, 7)], (800, 800))
    centres = (found[:, :2] + found[:, 2:]) / 2
    assert centres[:8].tolist() == [[114 * i, 0] for i in range(7)] + [[0, 61]]


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("order", ["ratio", "size"])
def test_detectron2s_and_mmdets(order, offset):
    """In order of rows, columns, and sizes then ratios (detectron2) or the reverse (mmdet)."""
    sizes, strides = ((32.0, 40.3), (64.0, 80.6)), (8.0, 16.0)
    expected = []
    for level, (rows, columns) in enumerate(GRIDS):
        pairs = [(s, r) for s in sizes[level] for r in RATIOS]
        pairs = pairs if order == "size" else [(s, r) for r in RATIOS for s in sizes[level]]
        for row in range(rows):
            for column in range(columns):
                x, y = (column + offset) * strides[level], (row + offset) * strides[level]
                for size, ratio in pairs:
                    w = math.sqrt(size**2 / ratio)
                    h = ratio * w
                    expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    found = Anchors(sizes, RATIOS, strides, offset, order).per_level(GRIDS)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6, atol=1e-5)
    assert all(x.dtype == np.float32 for x in found)


def test_shapes_replace_ratios():
    """EfficientDet's: widths and heights of 1.4 and 0.7, whose area is not exactly 1."""
    shapes = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    anchors = Anchors(((32.0, 40.0),), shapes=shapes, strides=(8.0,), offset=0.5, order="size")
    assert anchors.num_per_cell == 6
    (found,) = anchors.per_level([(1, 2)])
    centre = (found[:, :2] + found[:, 2:]) / 2
    np.testing.assert_allclose(centre, [[4, 4]] * 6 + [[12, 4]] * 6, atol=1e-5)
    sides = [[32, 32], [44.8, 22.4], [22.4, 44.8], [40, 40], [56, 28], [28, 56]]
    np.testing.assert_allclose(found[:6, 2:] - found[:6, :2], sides, rtol=1e-6)
    with pytest.raises(ValueError, match="legacy anchors have ratios, not shapes"):
        Anchors(((32.0,),), shapes=shapes, strides=(8.0,), legacy=True)


def test_legacy_ones_are_those_of_faster_rcnns_authors():
    """Their own table, of the anchors of the first cell."""
    table = [
        [-83, -39, 100, 56],
        [-175, -87, 192, 104],
        [-359, -183, 376, 200],
        [-55, -55, 72, 72],
        [-119, -119, 136, 136],
        [-247, -247, 264, 264],
        [-35, -79, 52, 96],
        [-79, -167, 96, 184],
        [-167, -343, 184, 360],
    ]
    anchors = Anchors(((128.0, 256.0, 512.0),), RATIOS, (16.0,), legacy=True)
    (found,) = anchors.per_level([(1, 2)])
    # The table is Matlab's, whose first pixel is 1.
    np.testing.assert_array_equal(found[:9], np.array(table) - 1)
    np.testing.assert_array_equal(found[9:], np.array(table) - 1 + [16, 0, 16, 0])


def test_legacy_ones_can_end_at_the_far_edge_of_their_last_pixel():
    fields = {"sizes": ((32.0, 64.0),), "strides": (4.0,), "legacy": True}
    (pixels,) = Anchors(**fields).per_level([(1, 2)])
    (edges,) = Anchors(**fields, far_edge=True).per_level([(1, 2)])
    np.testing.assert_array_equal(edges, pixels + np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(edges[:6, :2] + edges[:6, 2:], 4.0)  # the middle of the cell
    np.testing.assert_array_equal(edges[1, 2:] - edges[1, :2], [96, 48])  # 6 x 3 at the stride


def test_a_map_without_cells():
    assert Anchors(((8.0,),), strides=(4.0,)).per_level([(0, 3)])[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": ((1.0,), (1.0, 2.0))}, "as many values"),
        ({"sizes": ((1.0,),), "strides": (1.0, 2.0)}, "1 levels of sizes"),
        ({"sizes": ((1.0,),), "legacy": True}, "need strides"),
        ({"sizes": ((1.0,),), "far_edge": True}, "for legacy anchors"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        Anchors(**fields)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="2 maps for anchors of 1 levels"):
        Anchors(((1.0,),)).per_level([(1, 1), (1, 1)])
    with pytest.raises(ValueError, match="shape of the padded image"):
        Anchors(((1.0,),)).per_level([(1, 1)])
