"""KITTI's files: lines of the data set's own form, and round trips."""

import numpy as np
import pytest

from zoo.data.errors import DataError
from zoo.data.formats.kitti import read_camera, read_objects, write_objects

LABELS = """\
Pedestrian 0.00 0 -0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01
DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10
"""
CAMERAS = """\
P1: 7 0 6 -3 0 7 1 0 0 0 1 0
P2: 7.070493000000e+02 0 6.040814000000e+02 4.575831000000e+01 0 707 180 -0.35 0 0 1 0.005
R0_rect: 1 0 0 0 1 0 0 0 1
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        (path := tmp_path / "000000.txt").write_text(text)
        return path

    return write


def test_a_label_file(file):
    found = read_objects(file(LABELS))
    assert found.types == ("Pedestrian", "DontCare")
    assert found.occluded.tolist() == [0, -1]
    np.testing.assert_allclose(found.boxes[0], [712.4, 143, 810.73, 307.92])
    np.testing.assert_allclose(found.dimensions[0], [1.89, 0.48, 1.2])
    np.testing.assert_allclose(found.locations[0], [1.84, 1.47, 8.41])
    np.testing.assert_allclose([found.alphas[0], found.rotations[0]], [-0.2, 0.01])
    assert found.scores is None


@pytest.mark.parametrize("scores", [None, np.array([0.12345, 1.0], np.float32)])
def test_what_is_written_is_read(file, tmp_path, scores):
    objects = read_objects(file(LABELS))._replace(scores=scores)
    write_objects(path := tmp_path / "results.txt", objects)
    again = read_objects(path)
    for name in objects._fields:
        before, after = getattr(objects, name), getattr(again, name)
        if name == "types" or before is None:
            assert before == after
        else:
            np.testing.assert_allclose(after, before, atol=5.1e-5 if name == "scores" else 1e-6)


def test_no_objects(file, tmp_path):
    objects = read_objects(file("\n"))
    assert objects.types == () and objects.boxes.shape == (0, 4)
    write_objects(path := tmp_path / "none.txt", objects)
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LABELS + "Car 0 0 1\n", "line 3: not a type and 14 numbers"),
        (LABELS.replace("8.41", "far"), "line 1: could not convert"),
        (LABELS.replace("8.41", "nan"), "not finite"),
        (
            LABELS + LABELS.splitlines()[0] + " 0.5\n",
            "line 1: not a type and 14 numbers, or in all",
        ),
    ],
)
def test_lines_that_are_no_objects_are_named(file, text, message):
    with pytest.raises(DataError, match=message):
        read_objects(file(text))


def test_a_camera(file):
    found = read_camera(file(CAMERAS))
    np.testing.assert_allclose(found[0], [707.0493, 0, 604.0814, 45.75831])
    assert read_camera(file(CAMERAS), "P1")[0, 3] == -3
    with pytest.raises(DataError, match="no camera P3"):
        read_camera(file(CAMERAS), "P3")
    with pytest.raises(DataError, match="R0_rect is not 12 numbers"):
        read_camera(file(CAMERAS), "R0_rect")
