"""COCO's figures and arrays equal those of pycocotools; and the command line."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import detection, files, segmentation
from eval.coco import CocoEvaluator
from eval.records import DetectionRows, detections_from_padded, objects_from_padded, take
from tests.eval import generate, oracle

IOU_TYPES = ("bbox", "segm", "keypoints")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("coco")


def read(folder, dataset, results, iou_type):
    (folder / "a.json").write_text(json.dumps(dataset))
    (folder / "r.json").write_text(json.dumps(results))
    truth = files.read_coco(folder / "a.json", iou_type)
    return truth, files.read_coco_results(folder / "r.json", truth, iou_type)[0]


def evaluate(folder, dataset, results, iou_type) -> CocoEvaluator:
    truth, detections = read(folder, dataset, results, iou_type)
    evaluator = CocoEvaluator(truth.category_names, iou_type)
    evaluator.update(np.arange(len(truth.images)), truth.objects, detections)
    return evaluator


def assert_equals_official(folder, dataset, results, iou_type):
    official = oracle.evaluate(dataset, results, iou_type)
    evaluator = evaluate(folder, dataset, results, iou_type)
    curves = evaluator.curves()
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(curves, key), official.eval[key])
    figures = evaluator.compute()
    stats = [figures[line.key] for line in evaluator.lines]
    np.testing.assert_array_equal(stats, official.stats)


@pytest.mark.parametrize("iou_type", IOU_TYPES)
@pytest.mark.parametrize(
    "block", [0, 1, *(pytest.param(block, marks=pytest.mark.slow) for block in (2, 3))]
)
def test_equals_pycocotools(folder, iou_type, block):
    for seed in range(block * 12, block * 12 + 12):
        dataset, results = generate.awkward(seed, iou_type)
        assert_equals_official(folder, dataset, results, iou_type)


@pytest.mark.slow
@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_equals_pycocotools_on_many(folder, iou_type):
    for seed in range(1000, 1400):
        dataset, results = generate.awkward(seed, iou_type)
        assert_equals_official(folder, dataset, results, iou_type)


BOX = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(0, 5)] * 2).map(
    lambda box: [8.0 * v for v in box]
)
OBJECT = st.fixed_dictionaries(
    {
        "image_id": st.integers(0, 2),
        "category_id": st.integers(0, 2),
        "bbox": BOX,
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
        "area": st.sampled_from([0.0, 500.0, 1024.0, 5000.0, 9216.0, 20000.0]),
    }
)
RESULT = st.fixed_dictionaries(
    {
        "image_id": st.integers(0, 2),
        "category_id": st.integers(0, 2),
        "bbox": BOX,
        "score": st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0]),
    }
)


def joints(box: list[float], visible: int) -> list[float]:
    x, y, w, h = box
    return [v for i in range(17) for v in (x + w * (i % 4), y + h * (i // 4), visible * (i % 3))]


@pytest.mark.parametrize("iou_type", IOU_TYPES)
@given(objects=st.lists(OBJECT, max_size=12), results=st.lists(RESULT, min_size=1, max_size=20))
@settings(deadline=None, max_examples=40)
def test_equals_pycocotools_on_drawn_sets(folder, iou_type, objects, results):
    """The boxes have coarse coordinates, so that many overlaps and scores are equal."""
    for record in objects:
        x, y, w, h = record["bbox"]
        record["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        record["keypoints"] = joints(record["bbox"], int(record["area"] > 0))
        record["num_keypoints"] = sum(v > 0 for v in record["keypoints"][2::3])
    if iou_type == "keypoints":
        results = [result | {"keypoints": joints(result["bbox"], 1)} for result in results]
    dataset = {
        "images": [{"id": i, "height": 100, "width": 100} for i in range(3)],
        "categories": [{"id": i, "name": str(i)} for i in range(3)],
        "annotations": [record | {"id": i + 1} for i, record in enumerate(objects)],
    }
    assert_equals_official(folder, dataset, results, iou_type)


def test_annotation_of_id_0_is_an_object(folder):
    box = [10, 10, 20, 20]
    dataset = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 0, "image_id": 1, "category_id": 1, "bbox": box, "area": 400, "iscrowd": 0}
        ],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 1}]
    assert evaluate(folder, dataset, results, "bbox").compute()["AP"] == pytest.approx(1)
    assert oracle.evaluate(dataset, results, "bbox").stats[0] == 0  # our deviation


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_result_depends_on_neither_batches_nor_order_nor_hosts(folder, iou_type):
    dataset, results = generate.awkward(4, iou_type)
    truth, detections = read(folder, dataset, results, iou_type)
    whole = evaluate(folder, dataset, results, iou_type).compute()
    images = np.random.default_rng(0).permutation(len(truth.images))
    hosts = [CocoEvaluator(truth.category_names, iou_type) for _ in range(2)]
    for i, image in enumerate(images):
        own_objects = take(truth.objects, truth.objects.images == image)
        own_detections = take(detections, detections.images == image)
        hosts[i % 2].update([image], own_objects, own_detections)
    merged = pickle.loads(pickle.dumps(hosts[1]))
    merged.merge(pickle.loads(pickle.dumps(hosts[0])))
    assert merged.compute() == whole


def test_padded_batches():
    boxes = np.array([[[10, 20, 30, 60], [0, 0, 0, 0]]], np.float32)
    valid = np.array([[True, False]])
    labels, scores = np.array([[3, 0]]), np.array([[0.9, 0.8]], np.float32)
    objects = objects_from_padded(np.array([7]), boxes, labels, valid)
    detections = detections_from_padded(np.array([7]), boxes, labels, scores, valid)
    assert objects.boxes_xywh.tolist() == [[10, 20, 20, 40]]
    assert objects.areas.tolist() == [800]
    evaluator = CocoEvaluator({0: "a", 3: "b"})
    evaluator.update([7], objects, detections)
    figures = evaluator.compute()
    assert figures["AP"] == pytest.approx(1)
    assert figures["per_category"]["a"]["AP"] == -1


def test_wrong_updates():
    objects = objects_from_padded(
        np.array([1]), np.ones((1, 1, 4)), np.zeros((1, 1), int), np.ones((1, 1), bool)
    )
    found = DetectionRows(*np.zeros((2, 1), int), np.ones(1), np.ones((1, 4)), np.ones(1))
    evaluator = CocoEvaluator({0: "a"})
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluator.compute()
    with pytest.raises(ValueError, match="detection of image 0, which is not in the batch"):
        evaluator.update([1], objects, found)
    nan = DetectionRows(*np.ones((2, 1), int), np.ones(1), np.full((1, 4), np.nan), np.ones(1))
    with pytest.raises(ValueError, match="not finite"):
        evaluator.update([1], objects, nan)
    for _ in range(2):
        evaluator.update([1], objects, take(found, np.zeros(0, int)))
    with pytest.raises(ValueError, match="1 images were given more than once, first 1"):
        evaluator.compute()


def run(folder, dataset, results, *extra):
    (folder / "a.json").write_text(json.dumps(dataset))
    (folder / "r.json").write_text(json.dumps(results))
    paths = [f"--annotations={folder}/a.json", f"--predictions={folder}/r.json"]
    return detection.main([*paths, f"--json={folder}/o.json", *extra])


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_command_line(tmp_path, capsys, iou_type):
    dataset, results = generate.awkward(2, iou_type)
    plots = tmp_path / "plots"
    extra = (f"--iou_type={iou_type}", f"--plots={plots}", f"--images={tmp_path}")
    assert run(tmp_path, dataset, results, *extra) == 0
    official = oracle.evaluate(dataset, results, iou_type)
    figures = json.loads((tmp_path / "o.json").read_text())
    np.testing.assert_array_equal(list(figures.values())[: len(official.stats)], official.stats)
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(official.stats)] == oracle.summary(official)
    assert {"precision", "recall", "AP_by_iou"} <= set(next(iter(figures["per_category"].values())))
    assert (plots / "precision_recall.png").stat().st_size > 1000
    assert (plots / "confusion.png").exists()


BOX_RESULT = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}


def tiny():
    annotation = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
    return {
        "images": [{"id": 1, "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [annotation],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, "image_id is not in the annotations: results[1] (image_id 9"),
        ({"bbox": [1, 1, -5, 5]}, "bbox of negative width or height: results[1]"),
        ({"bbox": [1, 1, float("nan"), 5]}, "bbox: numbers that are not finite: results[1]"),
        ({"bbox": [1, 1, 5]}, "bbox: not 4 numbers: results[1]"),
        ({"score": float("inf")}, "score is not finite: results[1]"),
        ({"category_id": 10**30}, "Expected `int` <= 9223372036854775807"),
        ({"score": None}, "Expected `float`, got `null` - at `$[1].score`"),
    ],
)
def test_bad_results_are_named(tmp_path, capsys, change, message):
    assert run(tmp_path, tiny(), [BOX_RESULT, BOX_RESULT | change]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bad_annotations_are_named(tmp_path, capsys):
    for change, message in (
        ({"annotations": tiny()["annotations"] * 2}, "id given twice: annotations[1] (id 5"),
        ({"images": tiny()["images"] * 2}, "id given twice: images[1]"),
        ({"categories": tiny()["categories"] * 2}, "id given twice: categories[1]"),
        ({"annotations": [{"id": 1}]}, "missing required field"),
        ({"categories": [{"id": 10**30, "name": "cat"}]}, "Expected `int` <= 9223372036854775807"),
    ):
        assert run(tmp_path, tiny() | change, [BOX_RESULT]) == 2
        assert message in capsys.readouterr().err
    missing = [f"--annotations={tmp_path}/none.json", f"--predictions={tmp_path}/r.json"]
    assert detection.main(missing) == 2
    (tmp_path / "r.json").write_text("[{]")
    assert detection.main([f"--annotations={tmp_path}/a.json", *missing[1:]]) == 2


def test_unknown_categories_are_counted(tmp_path, capsys):
    assert run(tmp_path, tiny(), [BOX_RESULT, BOX_RESULT | {"category_id": 7}]) == 0
    assert "ignored 1 results of unknown category, first category_id 7" in capsys.readouterr().err


def test_what_pycocotools_takes_is_taken(tmp_path):
    dataset = tiny()
    dataset["images"][0]["file_name"] = None
    dataset["annotations"].append(
        dataset["annotations"][0]
        | {"id": 6, "image_id": 1.0, "bbox": [9, 9, 5, 5], "iscrowd": True}
    )
    results = [BOX_RESULT | {"image_id": 1.0}, BOX_RESULT | {"bbox": [9, 9, 5, 5], "score": 0.9}]
    assert run(tmp_path, dataset, results) == 0
    assert json.loads((tmp_path / "o.json").read_text())["AP"] == pytest.approx(1)


def test_masks_of_another_size_are_counted(tmp_path, capsys):
    dataset = tiny()
    dataset["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    masks = [{"size": size, "counts": [0, 600]} for size in ([20, 30], [30, 20])]
    results = [BOX_RESULT | {"segmentation": mask} for mask in masks]
    assert run(tmp_path, dataset, results, "--iou_type=segm") == 0
    error = capsys.readouterr().err
    assert "1 masks of another size than their image match nothing, first results[1]" in error


@pytest.mark.parametrize("iou", ["0", "0.52", "1.5", "nan"])
def test_impossible_options(tmp_path, capsys, iou):
    assert run(tmp_path, tiny(), [], f"--iou={iou}") == 2
    assert "--iou: " in capsys.readouterr().err
    assert run(tmp_path, tiny(), [], f"--json={tmp_path}/none/o.json") == 2
    assert "o.json: no folder" in capsys.readouterr().err


def test_no_results_score_zero(tmp_path):
    assert run(tmp_path, tiny(), []) == 0
    assert json.loads((tmp_path / "o.json").read_text())["AP"] == 0


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [20, 30], "counts": [5, 5]}, "mask: runs cover 10 pixels of an image of 20 x 30"),
        ({"size": [20, 30], "counts": "~~"}, "mask: compressed run lengths are damaged"),
        ({"size": [20, 30], "counts": "\ud800"}, "mask: compressed run lengths are damaged"),
        ({"size": [20, 30], "counts": [-5, 605]}, "mask: a run of negative length"),
        ([[1, 1, 2, 2, 3, float("nan")]], "mask: a polygon with numbers that are not finite"),
        ([[1, 1, 2, 2]], "polygons need at least 3 points each"),
    ],
)
def test_bad_masks_are_named(tmp_path, capsys, segmentation, message):
    dataset = tiny()
    dataset["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    results = [BOX_RESULT, BOX_RESULT | {"segmentation": segmentation}]
    assert run(tmp_path, dataset, results, "--iou_type=segm") == 2
    assert f"{message}: results[1]" in capsys.readouterr().err


@pytest.mark.parametrize("script", [detection, segmentation])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=run", "--annotations=a.json"], "--workdir and files exclude each other"),
        (["--annotations=a.json"], "--annotations and --predictions are needed"),
    ],
)
def test_missing_files_and_runs_that_cannot_be_are_errors(script, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("script", [detection, segmentation])
def test_a_folder_that_is_no_run_is_an_error(script, tmp_path, capsys):
    assert script.main([f"--workdir={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: not a run: it needs config.json and checkpoints/\n"
    )


def scenes(count=12, size=(400, 300)):
    """Boxes of two categories, and predictions of them that are a little off."""
    rng = np.random.default_rng(0)
    width, height = size
    images = [{"id": i, "width": width, "height": height} for i in range(count)]
    annotations, results = [], []
    for i in range(count):
        for _ in range(4):
            side = rng.uniform(20, 80, 2)
            low = rng.uniform(0, 1, 2) * (np.array(size) - side)
            box = [*low.tolist(), *side.tolist()]
            category = int(rng.integers(1, 3))
            common = {"image_id": i, "category_id": category}
            annotations.append(
                {**common, "id": len(annotations) + 1, "bbox": box, "area": float(side.prod())}
            )
            moved = (np.array(box) + rng.uniform(-2, 2, 4)).tolist()
            results.append({**common, "bbox": moved, "score": float(rng.random())})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "categories": categories, "annotations": annotations}, results


WRITTEN = {
    "[x1, y1, x2, y2] in pixels": lambda x, y, w, h: [x, y, x + w, y + h],
    "[y1, x1, y2, x2] in pixels": lambda x, y, w, h: [y, x, y + h, x + w],
    "[centre x, centre y, width, height] in pixels": lambda x, y, w, h: [
        x + w / 2, y + h / 2, w, h],
    "[x, y, width, height] in shares of the image": lambda x, y, w, h: [
        x / 400, y / 300, w / 400, h / 300],
    "[x1, y1, x2, y2] in shares of the image": lambda x, y, w, h: [
        x / 400, y / 300, (x + w) / 400, (y + h) / 300],
    "[y1, x1, y2, x2] in shares of the image": lambda x, y, w, h: [
        y / 300, x / 400, (y + h) / 300, (x + w) / 400],
    "[centre x, centre y, width, height] in shares of the image": lambda x, y, w, h: [
        (x + w / 2) / 400, (y + h / 2) / 300, w / 400, h / 300],
}  # fmt: skip


def rewritten(rows, written):
    return [row | {"bbox": written(*row["bbox"])} for row in rows]


@pytest.mark.parametrize("written", WRITTEN)
def test_predictions_in_another_format_are_found(tmp_path, capsys, written):
    dataset, results = scenes()
    assert run(tmp_path, dataset, results) == 0
    assert not capsys.readouterr().err
    right = json.loads((tmp_path / "o.json").read_text())["AP"]
    assert run(tmp_path, dataset, rewritten(results, WRITTEN[written])) == 0
    error = capsys.readouterr().err
    wrong = json.loads((tmp_path / "o.json").read_text())["AP"]
    assert wrong < right - 0.1
    assert error == (
        f"warning: {tmp_path}/r.json: AP would be {right:.3f} instead of {wrong:.3f} if the boxes"
        f" were read as {written}; write [x, y, width, height] in pixels\n"
    )


def test_annotations_in_another_format_are_found(tmp_path, capsys):
    for written, message in (
        (
            "[x1, y1, x2, y2] in pixels",
            "a.json: 81% of the boxes reach beyond their images, but as corners",
        ),
        ("[x, y, width, height] in shares of the image", "a.json: no number of a box is above"),
    ):
        dataset, results = scenes()
        dataset["annotations"] = rewritten(dataset["annotations"], WRITTEN[written])
        assert run(tmp_path, dataset, results) == 0
        assert message in capsys.readouterr().err


def test_a_detector_that_finds_nothing_is_not_blamed_on_the_format(tmp_path, capsys):
    dataset, results = scenes()
    rng = np.random.default_rng(1)
    for row in results:
        row["bbox"] = rng.uniform(0, 150, 4).tolist()
    assert run(tmp_path, dataset, results) == 0
    assert not capsys.readouterr().err


def test_lvis_predictions_in_another_format_are_found(tmp_path, capsys):
    dataset, results = scenes()
    for image in dataset["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in dataset["categories"]:
        category["frequency"] = "f"
    results = rewritten(results, WRITTEN["[x1, y1, x2, y2] in pixels"])
    assert run(tmp_path, dataset, results, "--style=lvis") == 0
    assert "if the boxes were read as [x1, y1, x2, y2] in pixels" in capsys.readouterr().err


def test_no_precision_where_nothing_is_predicted(tmp_path, capsys):
    assert run(tmp_path, tiny(), [BOX_RESULT], "--score=0.9") == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "cat " in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][-2:] == ["-", "0.000"]
    assert json.loads((tmp_path / "o.json").read_text())["per_category"]["cat"]["precision"] == -1


@pytest.mark.parametrize("iou_type", IOU_TYPES)
@pytest.mark.parametrize("most", [1, 2, 50, 100, 300])
def test_other_numbers_of_detections_are_reported_beside(tmp_path, capsys, iou_type, most):
    dataset, results = generate.awkward(2, iou_type)
    assert run(tmp_path, dataset, results, f"--iou_type={iou_type}") == 0
    plain = json.loads((tmp_path / "o.json").read_text())
    extra = (f"--iou_type={iou_type}", f"--max_dets={most}")
    assert run(tmp_path, dataset, results, *extra) == 0
    figures = json.loads((tmp_path / "o.json").read_text())
    added = {key for key in figures if "@" in key}
    assert {key: figures[key] for key in plain if key != "per_category"} == {
        key: plain[key] for key in plain if key != "per_category"
    }
    for name, row in plain["per_category"].items():
        there = figures["per_category"][name]
        assert {key: there[key] for key in row} == row
    if most == (20 if iou_type == "keypoints" else 100):
        assert not added
        return
    official = oracle.evaluate(dataset, results, iou_type, most)
    for key, pick in (("AP", official.eval["precision"]), ("AR", official.eval["recall"])):
        values = pick[..., 0, -1]
        assert figures[f"{key}@{most}"] == pytest.approx(values[values > -1].mean(), abs=1e-12)
    assert f"maxDets={most:>3} ]" in capsys.readouterr().out


def test_impossible_numbers_of_detections(tmp_path, capsys):
    assert run(tmp_path, tiny(), [BOX_RESULT], "--max_dets=0") == 2
    assert "--max_dets: 0, but must be 1 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, tiny(), [BOX_RESULT], "--max_dets=5", "--style=voc")
