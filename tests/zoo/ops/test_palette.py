import numpy as np

from zoo.ops.palette import draw_objects, draw_segments, overlay, palette


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


def test_objects_are_drawn_at_the_size_of_a_large_image():
    image = np.full((400, 500, 3), 7, np.uint8)
    drawn = draw_objects(image, np.array([[100.0, 200.0, 300.0, 350.0]]), np.array([0]), ["a"])
    assert drawn.shape == image.shape and (image == 7).all()
    colour = palette(2)[1]
    for row, column in ((210, 100), (349, 200), (300, 299)):
        assert (drawn[row, column] == colour).all()
    assert (drawn[220:340, 110:290] == 7).all() and (drawn[:150] == 7).all()


def test_joints_are_drawn_if_their_score_is_above_0_and_limbs_between_two_of_them():
    image, box = np.zeros((400, 500, 3), np.uint8), np.array([[0.0, 100.0, 500.0, 390.0]])
    joints = np.array([[[100, 200, 0.1], [300, 200, 4], [300, 350, 0], [400, 350, 1]]])
    limbs = ((0, 1), (1, 2), (0, 3))
    drawn = draw_objects(image, box, np.array([0]), ["a"], None, joints, limbs)
    plain = draw_objects(image, box, np.array([0]), ["a"])
    changed = (drawn != plain).any(-1)
    for x, y, score in joints[0].tolist():
        assert (drawn[int(y), int(x)] == 255).all() == (score > 0)
    assert changed[200, 110:290].all() and not changed[215:280, 300].any()
    assert changed[250, int(100 + 300 * 50 / 150)]  # on the third limb
    colours = {tuple(drawn[200, 200].tolist()), tuple(drawn[275, 250].tolist())}
    assert len(colours) == 2


def test_segments_are_drawn_with_lines_between_them_and_their_texts():
    image, ids = np.full((400, 600, 3), 100, np.uint8), np.ones((400, 600), np.int32)
    ids[:, 300:], ids[:50] = 2, 0
    drawn = draw_segments(image, ids, np.array([4, 0]), ["left", "right"])
    assert (drawn[:49] == 100).all()  # no segment is here
    assert (drawn[60:, 299] == 255).all() and (drawn[49] == 255).all()
    blue, red = palette(6)[5], palette(2)[1]
    np.testing.assert_array_equal(drawn[390, 10], np.rint(50 + blue / 2))
    np.testing.assert_array_equal(drawn[390, 590], np.rint(50 + red / 2))
    for colour, columns in ((blue, slice(0, 299)), (red, slice(300, 600))):
        rows, _ = np.nonzero((drawn[:, columns] == colour).all(-1))  # background of the text
        assert 150 < rows.min() and rows.max() < 300
    nothing = draw_segments(image, ids * 0, np.zeros(0, int), [])
    np.testing.assert_array_equal(nothing, image)
