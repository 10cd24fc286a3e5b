import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve

from eval import plots
from eval.coco import CocoEvaluator
from eval.diagnose import mistakes, raw_curves
from eval.records import DetectionRows, ObjectRows


def boxes(*lefts):
    return np.array([[left, 0, 10, 10] for left in lefts], float)


def evaluator():
    """One image: cats at 0, 20 and 60, a dog at 40; a crowd of cats at 80."""
    crowd = np.array([False, False, False, False, True])
    objects = ObjectRows(
        np.ones(5, int), np.array([1, 1, 1, 2, 1]), boxes(0, 20, 60, 40, 80), np.full(5, 100.0),
        crowd, crowd,
    )  # fmt: skip
    detections = DetectionRows(
        np.ones(6, int),
        np.array([1, 1, 2, 1, 1, 1]),
        np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.2]),
        boxes(0, 0, 20, 40, 80, 60),
        np.full(6, 100.0),
    )
    result = CocoEvaluator({1: "cat", 2: "dog"})
    result.update([1], objects, detections)
    return result


def test_confusions_and_worst_cases():
    found = mistakes(evaluator(), score=0.5)
    # Cats: one found, one found as dog, one missed. The dog is found as cat. The first cat is
    # found twice.
    np.testing.assert_array_equal(found.matrix, [[1, 1, 1], [1, 0, 0], [1, 0, 0]])
    assert found.objects.boxes_xywh[found.misses, 0].tolist() == [60]
    assert found.detections.scores[found.false_positives].tolist() == [0.8, 0.7, 0.6]


def test_precision_and_recall_at_a_score():
    curves = raw_curves(evaluator())
    assert curves["cat"].num_objects == 3
    assert curves["cat"].at(0.5) == {"precision": 1 / 3, "recall": 1 / 3}
    assert curves["cat"].at(0.1) == {"precision": 2 / 4, "recall": 2 / 3}
    assert curves["cat"].at(0.95) == {"precision": -1.0, "recall": 0.0}
    with pytest.raises(ValueError, match="no IoU threshold"):
        raw_curves(evaluator(), iou=0.2)


def test_curve_equals_scikit_learn():
    """If every object is found once, precision and recall are those of a ranking."""
    rng = np.random.default_rng(0)
    n = 60
    right = rng.random(n) < 0.5
    lefts = np.arange(n) * 20.0
    count = int(right.sum())
    none = np.zeros(count, bool)
    ones = np.ones(n, int)
    objects = ObjectRows(
        ones[:count], ones[:count], boxes(*lefts[right]), np.ones(count), none, none
    )
    scores = rng.random(n)
    result = CocoEvaluator({1: "cat"})
    result.update([1], objects, DetectionRows(ones, ones, scores, boxes(*lefts), np.ones(n)))
    precision, recall, _ = precision_recall_curve(right, scores)
    curve = raw_curves(result)["cat"]
    np.testing.assert_allclose(curve.precision[::-1], precision[:-1])
    np.testing.assert_allclose(curve.recall[::-1], recall[:-1])


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_image_is_turned_as_its_annotations_are(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1)}[orientation]
    for size in (upright.shape[:2], (0, 0)):  # a json may have no size
        found = plots.read_image(tmp_path / "a.png", size)
        np.testing.assert_array_equal(found, upright[..., ::-1])
    stored = plots.read_image(tmp_path / "a.png", (2, 3))
    expected = upright if orientation == 3 else pixels  # both have this size
    np.testing.assert_array_equal(stored, expected[..., ::-1])
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert plots.read_image(tmp_path / "a.png", (2, 3)) is None


def test_worst_cases_are_drawn(tmp_path):
    image = np.zeros((40, 100, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "1.png"), image)
    found, names = mistakes(evaluator()), {1: "cat", 2: "dog"}

    def read(image):
        return plots.read_image(tmp_path / f"{image}.png", (40, 100))

    assert plots.worst(tmp_path / "worst.png", found, read, names) == 0
    drawn = cv2.imread(str(tmp_path / "worst.png"))
    assert drawn.shape == (320, 4 * 320, 3)
    reds = (drawn == (60, 60, 230)).all(axis=-1).reshape(320, 4, 320).any(axis=(0, 2))
    assert reds.tolist() == [True, True, True, False]
    (tmp_path / "1.png").unlink()
    assert plots.worst(tmp_path / "none.png", found, read, names) == 4
