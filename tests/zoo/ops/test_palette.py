import numpy as np

from zoo.ops.palette import overlay, palette


def test_colours_are_pascal_vocs():
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    colours = palette(256)
    assert {i: tuple(colours[i].tolist()) for i in expected} == expected
    assert len(np.unique(colours, axis=0)) == 256


def test_overlay_leaves_label_0_as_it_is():
    image = np.full((2, 3, 3), 100, np.uint8)
    labels = np.array([[0, 1, 0], [0, 0, 2]])
    mixed = overlay(image, labels, opacity=0.5)
    assert (mixed[labels == 0] == 100).all()
    assert mixed[0, 1].tolist() == [114, 50, 50] and mixed[1, 2].tolist() == [50, 114, 50]
