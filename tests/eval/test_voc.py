"""PASCAL VOC's figures equal a simple implementation of the devkit's VOCevaldet."""

import json

import numpy as np
import pytest

from eval import detection
from eval.records import DetectionRows, ObjectRows, take
from eval.voc import ELEVEN_RECALLS, VocEvaluator


def draw(seed):
    """Random objects and detections: integer corners, ties, difficult objects, empty images."""
    rng = np.random.default_rng(seed)

    def boxes(n):
        return np.concatenate([rng.integers(1, 30, (n, 2)), rng.integers(0, 30, (n, 2))], 1) * 1.0

    n, m = rng.integers(0, 20), rng.integers(1, 50)
    truth = boxes(n)
    near = truth[rng.integers(0, n, m)] + rng.integers(-2, 3, (m, 4)) if n else boxes(m)
    found = np.where(rng.random((m, 1)) < 0.7, np.maximum(near, 0), boxes(m))
    none = np.zeros(n, bool)
    labels = rng.integers(0, 4, n), rng.integers(0, 3, n)
    objects = ObjectRows(*labels, truth, np.ones(n), none, rng.random(n) < 0.2)
    scores = np.round(rng.random(m), 1)
    labels = rng.integers(0, 4, m), rng.integers(0, 3, m)
    return objects, DetectionRows(*labels, scores, found, np.ones(m))


def devkit_ap(objects, detections, category, threshold, eleven_point):
    """The AP of one category, computed detection by detection."""
    total = sum((objects.categories == category) & ~objects.ignored)
    rows = [i for i in range(len(detections)) if detections.categories[i] == category]
    rows.sort(key=lambda i: (-detections.scores[i], detections.images[i]))
    taken, true, false = set(), [], []
    for i in rows:
        x, y, w, h = detections.boxes_xywh[i]
        best, which = -np.inf, None
        for j in range(len(objects)):
            if (objects.images[j], objects.categories[j]) != (detections.images[i], category):
                continue
            gx, gy, gw, gh = objects.boxes_xywh[j]
            width = min(x + w, gx + gw) - max(x, gx) + 1
            height = min(y + h, gy + gh) - max(y, gy) + 1
            if width > 0 and height > 0:
                inter = width * height
                overlap = inter / ((w + 1) * (h + 1) + (gw + 1) * (gh + 1) - inter)
                if overlap > best:
                    best, which = overlap, j
        hit = best >= threshold
        counts = not (hit and objects.ignored[which])
        fresh = hit and which not in taken
        true.append(int(counts and fresh))
        false.append(int(counts and not fresh))
        if hit:
            taken.add(which)
    if not total:
        return -1
    recall = np.cumsum(true) / total
    precision = np.cumsum(true) / np.maximum(np.cumsum(true) + np.cumsum(false), 1)
    if eleven_point:
        best = [max((p for p, r in zip(precision, recall, strict=True) if r >= t), default=0)
                for t in ELEVEN_RECALLS]  # fmt: skip
        return sum(best) / 11
    recall, precision = np.array([0, *recall, 1]), np.array([0, *precision, 0])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


@pytest.mark.parametrize("eleven_point", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_equals_the_devkit(eleven_point, threshold):
    for seed in range(60):
        objects, detections = draw(seed)
        evaluator = VocEvaluator({0: "a", 1: "b", 2: "c"}, threshold, eleven_point)
        evaluator.update(range(4), objects, detections)
        figures = evaluator.compute()
        expected = [devkit_ap(objects, detections, k, threshold, eleven_point) for k in range(3)]
        ap = [row["AP"] for row in figures["per_category"].values()]
        np.testing.assert_allclose(ap, expected, atol=1e-12)
        known = [value for value in expected if value >= 0]
        assert figures["mAP"] == pytest.approx(np.mean(known) if known else -1, abs=1e-12)


def test_recalls_are_those_of_the_devkit():
    """Matlab computes the first half of 0:0.1:1 upwards from 0, the second downwards from 1."""
    step = 0.1
    counted = [i * step if i <= 5 else 1 - (10 - i) * step for i in range(11)]
    assert ELEVEN_RECALLS.tolist() == counted


def test_order_and_batches_do_not_matter():
    objects, detections = draw(5)
    whole, merged = (VocEvaluator({0: "a", 1: "b", 2: "c"}) for _ in range(2))
    whole.update(range(4), objects, detections)
    for i in (2, 0, 3, 1):
        part = VocEvaluator({0: "a", 1: "b", 2: "c"})
        part.update(
            [i], take(objects, objects.images == i), take(detections, detections.images == i)
        )
        merged.merge(part)
    assert merged.compute() == whole.compute()


XML = """<annotation><filename>{0}.jpg</filename>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>19</xmax><ymax>29</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>
</object></annotation>"""


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "xml").mkdir()
    (tmp_path / "txt").mkdir()
    for name in ("000001", "000002"):
        (tmp_path / "xml" / f"{name}.xml").write_text(XML.format(name))
    (tmp_path / "txt/comp4_det_test_cat.txt").write_text(
        "000001 0.9 10 10 19 29\n000002 0.8 50 50 60 60\n"
    )
    return tmp_path


def run(folder):
    paths = [f"--annotations={folder}/xml", f"--predictions={folder}/txt", "--style=voc"]
    return detection.main([*paths, f"--json={folder}/o.json"])


def test_command_line(folders, capsys):
    assert run(folders) == 0
    figures = json.loads((folders / "o.json").read_text())
    assert figures["per_category"]["cat"] == {"AP": 0.5, "recall": 0.5, "precision": 0.5}
    assert figures["mAP"] == 0.25
    output = capsys.readouterr().out
    assert "mAP = 0.25" in output
    (row,) = [line for line in output.splitlines() if "dog" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["dog", "0.000", "-", "0.000"]


def test_boxes_in_another_format_are_found(folders, capsys):
    for path in (folders / "xml").iterdir():
        size = "<size><width>100</width><height>80</height></size><object>"
        path.write_text(path.read_text().replace("<object>", size, 1))
    (folders / "txt/comp4_det_test_cat.txt").write_text(
        "000001 0.9 0.1 0.125 0.19 0.3625\n000002 0.8 0.1 0.125 0.19 0.3625\n"
    )
    assert run(folders) == 0
    assert (
        "txt: mAP would be 0.500 instead of 0.000 if the boxes were read as [x1, y1, x2, y2] in"
        " shares of the image; write left, top, right, bottom in pixels" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("txt/a_cat.txt", "000009 0.5 1 1 2 2", "a_cat.txt:1: image '000009' is not annotated"),
        ("txt/a_cat.txt", "000001 0.5 1 1 2", "a_cat.txt:1: not image, score and a box"),
        ("txt/a_cat.txt", "000001 nan 1 1 2 2", "a_cat.txt:1: not image, score and a box"),
        ("xml/1.xml", "<annotation><object>", "1.xml: "),
        ("xml/1.xml", XML.replace("<xmax>5", "<xmax>-9"), "1.xml: bndbox [1.0, 1.0, -9.0, 5.0]"),
        ("xml/1.xml", XML.replace("<name>dog</name>", ""), "1.xml: <object> without name"),
    ],
)
def test_bad_files_are_named(folders, capsys, file, text, message):
    (folders / file).write_text(text)
    assert run(folders) == 2
    assert message in capsys.readouterr().err


def test_names_with_an_underscore(folders):
    for path in (folders / "xml").iterdir():
        text = path.read_text()
        path.write_text(text.replace("cat<", "big_cat<").replace("dog<", "cat<"))
    (folders / "txt/comp4_det_test_cat.txt").rename(folders / "txt/comp4_det_test_big_cat.txt")
    assert run(folders) == 0
    figures = json.loads((folders / "o.json").read_text())
    assert figures["per_category"]["big_cat"]["AP"] == 0.5
    assert figures["per_category"]["cat"]["AP"] == 0


def test_files_that_are_not_text_or_of_one_category(folders, capsys):
    (folders / "txt/comp5_det_test_cat.txt").write_text("000001 0.9 10 10 19 29\n")
    assert run(folders) == 2
    assert "category 'cat' was in comp4_det_test_cat.txt already" in capsys.readouterr().err
    (folders / "txt/comp4_det_test_cat.txt").write_bytes(b"\xe9")
    assert run(folders) == 2
    assert "comp4_det_test_cat.txt: not text" in capsys.readouterr().err


def test_unknown_category_is_a_warning(folders, capsys):
    (folders / "txt/comp4_det_test_bird.txt").write_text("000001 0.9 10 10 19 29\n")
    assert run(folders) == 0
    assert "no object of category 'bird'" in capsys.readouterr().err
