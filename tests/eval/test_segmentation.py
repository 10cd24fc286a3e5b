import json
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from eval import segmentation
from eval.boundary import BoundaryF1
from eval.confusion import ConfusionMatrix

NAMES = ["road", "sky", "tree", "car", "never"]


def draw(seed, shape=(3, 40, 50), dtype=np.uint8):
    """Truth and prediction in blocks of classes 0 to 3, with noise; a tenth of the truth is 255."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 4, (shape[0], shape[1] // 10, shape[2] // 10))
    target = blocks.repeat(10, axis=1).repeat(10, axis=2)
    prediction = np.where(rng.random(shape) < 0.3, rng.integers(0, 4, shape), target)
    target = np.where(rng.random(shape) < 0.1, 255, target)
    return target.astype(dtype), prediction.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_equals_scikit_learn(dtype):
    target, prediction = draw(0, dtype=dtype)
    matrix = ConfusionMatrix(NAMES)
    matrix.update(target, prediction)
    true, predicted = target[target != 255], prediction[target != 255]
    expected = metrics.confusion_matrix(true, predicted, labels=range(5))
    np.testing.assert_array_equal(matrix.counts, expected)
    figures = matrix.compute()
    assert figures["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert figures["mIoU"] == pytest.approx(metrics.jaccard_score(true, predicted, average="macro"))
    weighted = metrics.jaccard_score(true, predicted, average="weighted")
    assert figures["fwIoU"] == pytest.approx(weighted)
    balanced = metrics.balanced_accuracy_score(true, predicted)
    assert figures["mean_accuracy"] == pytest.approx(balanced)
    assert figures["dice"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    rows = list(figures["per_class"].values())
    for key, function in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
        ours = [row[key] for row in rows[:4]]
        np.testing.assert_allclose(ours, function(true, predicted, average=None))
    assert rows[4] == {"iou": -1, "precision": -1, "recall": -1, "dice": -1, "pixels": 0}


def test_batches_and_hosts_do_not_matter():
    target, prediction = draw(1)
    whole, merged = ConfusionMatrix(NAMES), ConfusionMatrix(NAMES)
    whole.update(target, prediction)
    for i in (2, 0, 1):
        part = ConfusionMatrix(NAMES)
        part.update(target[i], prediction[i])
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.compute() == whole.compute()


def test_counts_beyond_single_precision():
    """A histogram in float32 cannot count further than 2^24."""
    labels = np.zeros((1, 5000, 5000), np.uint8)
    matrix = ConfusionMatrix(NAMES)
    matrix.update(labels, labels)
    assert matrix.counts[0, 0] == 25_000_000


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_labels_outside_the_classes(dtype):
    good, bad = np.zeros((4, 4), dtype), np.full((4, 4), 7, dtype)
    for target, prediction, message in (
        (bad, good, "target has label 7, classes are 0 to 4"),
        (good, bad, "prediction has label 7, classes are 0 to 4"),
        (good, good[:2], r"target of \(4, 4\) but prediction of \(2, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ConfusionMatrix(NAMES).update(target, prediction)
    ConfusionMatrix(NAMES, ignore_label=7).update(bad, bad)


def test_a_class_to_ignore_is_in_no_mean():
    """For example label 0 of ADE20K: if it is predicted, the true class is missed."""
    target, prediction = np.array([[0, 1, 1, 2]]), np.array([[1, 1, 0, 2]])
    matrix, boundary = (
        metric(NAMES[:3], ignore_label=0) for metric in (ConfusionMatrix, BoundaryF1)
    )
    matrix.update(target, prediction)
    figures = matrix.compute()
    assert figures["mIoU"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures["dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["pixel_accuracy"] == pytest.approx(2 / 3)
    assert figures["per_class"]["road"]["iou"] == -1
    boundary.update(target, prediction)
    assert boundary.compute()["per_class"]["road"] == -1


def test_classes_of_one_name_are_told_apart():
    target, prediction = draw(4)
    names = ["road", "road", "road (1)", "car"]
    for metric in (ConfusionMatrix(names), BoundaryF1(names)):
        metric.update(target[0], prediction[0])
        assert len(metric.compute()["per_class"]) == 4


def test_labels_below_zero():
    """Some data sets ignore the label -1."""
    target, prediction = draw(2, dtype=np.int16)
    expected, matrix = ConfusionMatrix(NAMES), ConfusionMatrix(NAMES, ignore_label=-1)
    expected.update(target, prediction)
    matrix.update(np.where(target == 255, -1, target), prediction)
    np.testing.assert_array_equal(matrix.counts, expected.counts)
    for wrong in (-2, 300):
        with pytest.raises(ValueError, match=f"target has label {wrong}"):
            matrix.update(np.full((4, 4), wrong), np.zeros((4, 4), int))


def slow_boundary(target, prediction, k, tolerance):
    outlines = []
    for labels in (target, prediction):
        found = []
        for y, x in np.argwhere(labels == k):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]
                if inside and target[y, x] != 255 != target[v, u] and labels[v, u] != k:
                    found.append((y, x))
                    break
        outlines.append(np.array(found, float).reshape(-1, 2))
    true, predicted = outlines
    if not len(true) and not len(predicted):
        return None
    if not len(true) or not len(predicted):
        return 0
    limit = tolerance * np.hypot(*target.shape)
    distance = np.linalg.norm(predicted[:, None] - true, axis=-1)
    precision, recall = (distance.min(axis=axis) <= limit for axis in (1, 0))
    both = precision.mean() + recall.mean()
    return 2 * precision.mean() * recall.mean() / both if both else 0


def test_boundary_f1():
    target, prediction = draw(3, (4, 30, 40))
    prediction = np.roll(np.where(target == 255, 0, target), 1, axis=1).astype(np.uint8)
    prediction[0] = 1
    boundary, other = BoundaryF1(NAMES, tolerance=0.03), BoundaryF1(NAMES, tolerance=0.03)
    for i in (3, 1):
        boundary.update(target[i], prediction[i])
    for i in (0, 2):
        other.update(target[i], prediction[i])
    boundary.merge(other)
    figures = boundary.compute()
    expected = []
    for k, name in enumerate(NAMES):
        scores = [slow_boundary(t, p, k, 0.03) for t, p in zip(target, prediction, strict=True)]
        scores = [score for score in scores if score is not None]
        expected.append(np.mean(scores) if scores else -1)
        assert figures["per_class"][name] == pytest.approx(expected[-1])
    assert figures["boundary_F1"] == pytest.approx(np.mean([e for e in expected if e >= 0]))


@pytest.fixture
def folders(tmp_path):
    target, prediction = draw(5)
    for name, labels in (("true", target), ("found", prediction)):
        (tmp_path / name / "town").mkdir(parents=True)
        for i, image in enumerate(labels):
            Image.fromarray(image).save(tmp_path / name / "town" / f"{i}.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def run(folder, *extra):
    paths = [f"--annotations={folder}/true", f"--predictions={folder}/found"]
    return segmentation.main(
        [*paths, f"--classes={folder}/names.txt", f"--json={folder}/o.json", *extra]
    )


def test_command_line(folders, capsys):
    assert run(folders, "--boundary", f"--plots={folders}/plots") == 0
    figures = json.loads((folders / "o.json").read_text())
    matrix = ConfusionMatrix(NAMES)
    matrix.update(*draw(5))
    assert figures["mIoU"] == matrix.compute()["mIoU"]
    assert {"mIoU", "pixel_accuracy", "per_class", "boundary_F1"} <= set(figures)
    assert "mIoU" in capsys.readouterr().out
    assert (folders / "plots/confusion.png").exists()


def test_palette_images_are_indices(folders):
    assert run(folders) == 0
    expected = (folders / "o.json").read_text()
    for path in (folders / "true/town").iterdir():
        image = Image.open(path)
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
        image.save(path)
    assert run(folders) == 0
    assert (folders / "o.json").read_text() == expected


def test_bad_folders_are_named(folders, capsys):
    cases = (
        (
            np.zeros((40, 50, 3), np.uint8),
            "1.png: a mask has one channel of whole numbers, or a palette; this one is RGB",
        ),
        (np.full((40, 50), 9, np.uint8), "prediction has label 9, classes are 0 to 4"),
        (np.zeros((40, 51), np.uint8), "target of (40, 50) but prediction of (40, 51)"),
    )
    path = folders / "found/town/1.png"
    for image, message in cases:
        Image.fromarray(image).save(path)
        assert run(folders) == 2
        error = capsys.readouterr().err
        assert message in error and "1.png" in error and error.count("\n") == 1
    path.write_bytes(b"no image")
    assert run(folders) == 2
    path.unlink()
    assert run(folders) == 2
    assert "lacks 1 of 3 images, first town/1" in capsys.readouterr().err


def test_labels_that_are_no_whole_numbers(folders, capsys):
    for name in ("true", "found"):
        (folders / name / "town/1.png").unlink()
        Image.fromarray(np.full((40, 50), 0.5, np.float32)).save(folders / name / "town/1.tif")
    assert run(folders) == 2
    assert (
        "1.tif: a mask has one channel of whole numbers, or a palette; this one is F"
        in capsys.readouterr().err
    )


def test_two_files_of_one_name(folders, capsys):
    Image.new("L", (50, 40)).save(folders / "true/town/1.bmp")
    assert run(folders) == 2
    assert "1.png: 1.bmp has the same name" in capsys.readouterr().err


def write_masks(folder, truth, found):
    for name, labels in (("true", truth), ("found", found)):
        for path in (folder / name / "town").iterdir():
            Image.fromarray(labels.astype(np.uint8)).save(path)


ONE = np.pad(np.full((4, 4), 1, np.uint8), 2)


@pytest.mark.parametrize(
    ("truth", "label", "message"),
    [
        (255 * ONE, 255, "25.00% of the pixels have the label 255, which is ignored, and all others"
         " are of class 'road': if 255 is a class, as in masks of 0 and 255,"),
        (255 * (1 - ONE), 255, "75.00% of the pixels have the label 255"),
        (0 * ONE, 0, "100.00% of the pixels have the label 0, which is ignored, and no pixel is"),
        (ONE, 0, "75.00% of the pixels have the label 0, which is ignored, and all others are of"
         " class 'car'"),
    ],
    ids=["object", "ground", "nothing left", "another label"],
)  # fmt: skip
def test_masks_whose_ignored_label_must_be_a_class(folders, capsys, truth, label, message):
    (folders / "names.txt").write_text("road\ncar\n")
    write_masks(folders, truth, ONE * 0)
    assert run(folders, f"--ignore_label={label}") == 0
    printed = capsys.readouterr()
    assert f"warning: {message}" in printed.err and printed.err.count("\n") == 1
    assert f"ignored: {message.split()[0]} of the pixels, with label {label}" in printed.out
    share = float(message.split("%")[0]) / 100
    assert json.loads((folders / "o.json").read_text())["ignored"] == pytest.approx(share)


def test_what_is_ignored_and_never_there_is_said(folders, capsys):
    truth = ONE.copy()
    truth[0] = 255
    (folders / "names.txt").write_text("road\ncar\nbus\n")
    write_masks(folders, truth, ONE * 0)
    assert run(folders) == 0
    printed = capsys.readouterr()
    assert not printed.err
    assert "ignored: 12.50% of the pixels, with label 255" in printed.out
    assert "classes without a true pixel: bus\n" in printed.out
    (row,) = [line for line in printed.out.splitlines() if "bus" in line and "│" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["bus", *"----", "0"]


def test_pillows_limit_does_not_matter(folders, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    assert run(folders) == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (b"\xff\xfe\x00", "names.txt: cannot be read (not text in utf-16: byte 0x00"),
        (b"\n", "names.txt: 0 names"),
        (b"road\n\nsky\n", "names.txt: line 2 is blank"),
        (b"road\nsky\nroad\n", "names.txt: line 3: 'road' given twice"),
        (b"\n".join(b"%d" % i for i in range(5000)), "names.txt: 5000 names, not 1 to 4096"),
    ],
)
def test_bad_names_are_errors(folders, capsys, names, message):
    (folders / "names.txt").write_bytes(names)
    assert run(folders) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_impossible_options(folders, capsys):
    for option, message in (
        ("--classes=0", "--classes: 0, not 1 to 4096"),
        (f"--classes={'9' * 5000}", "--classes: 999999999, not 1 to 4096"),
        (f"--json={folders}/none/o.json", "o.json: no folder"),
    ):
        assert run(folders, option) == 2
        assert message in capsys.readouterr().err
