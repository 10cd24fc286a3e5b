"""Panoptic quality equals its definition in panopticapi (arXiv 1801.00868), mask by mask."""

import json
import pickle
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from eval import segmentation
from eval.panoptic import PanopticQuality, Segment

NAMES = {3: "person", 5: "car", 8: "sky", 9: "never"}
THINGS = (3, 5, 9)


def draw(seed):
    """Random overlapping blocks with void, and several crowds, also of the same category."""
    rng = np.random.default_rng(seed)
    target = np.zeros((24, 24), np.int64)
    for _ in range(rng.integers(1, 9)):
        y, x, h, w = rng.integers(0, 20, 4)
        target[y : y + h + 2, x : x + w + 2] = rng.integers(1, 300) * rng.integers(0, 4)
    kinds = [3, 5, 8]
    true = [
        Segment(int(i), int(rng.choice(kinds)), bool(rng.random() < 0.3))
        for i in np.unique(target[target > 0])
    ]
    prediction = np.roll(target, rng.integers(-2, 3), axis=1)
    for _ in range(rng.integers(0, 4)):
        y, x, h, w = rng.integers(0, 16, 4)
        prediction[y : y + h + 2, x : x + w + 2] = rng.integers(1, 300)
    same = {segment.id: segment.category for segment in true}
    found = [
        Segment(int(i), same.get(int(i), 3) if rng.random() < 0.8 else int(rng.choice(kinds)))
        for i in np.unique(prediction[prediction > 0])
    ]
    return target, true, prediction, found


def slow_quality(images):
    """PQ, SQ and RQ of each category that has objects or detections."""
    ious, wrong, missed = defaultdict(list), defaultdict(int), defaultdict(int)
    for target, true, prediction, found in images:
        taken = set()
        for segment in true:
            mask = target == segment.id
            if segment.crowd:
                continue
            for other in found:
                area = (prediction == other.id) & (target != 0)
                iou = (mask & area).sum() / (mask | area).sum()
                if other.category == segment.category and iou > 0.5:
                    ious[segment.category].append(iou)
                    taken.add(other.id)
                    break
            else:
                missed[segment.category] += 1
        for other in found:
            area = prediction == other.id
            shield = target == 0
            crowds = [s.id for s in true if s.crowd and s.category == other.category]
            if crowds:
                shield |= target == crowds[-1]
            if other.id not in taken and (area & shield).sum() / area.sum() <= 0.5:
                wrong[other.category] += 1
    rows = {}
    for k in NAMES:
        weight = len(ious[k]) + wrong[k] / 2 + missed[k] / 2
        if weight:
            rows[k] = sum(ious[k]) / weight, np.mean(ious[k] or [0]), len(ious[k]) / weight
    return rows


def gather(images):
    quality = PanopticQuality(NAMES, THINGS)
    for image in images:
        quality.update(*image)
    return quality


@pytest.mark.parametrize("block", range(5))
def test_equals_the_definition(block):
    images = [draw(seed) for seed in range(block * 20, block * 20 + 20)]
    figures = gather(images).compute()
    rows = slow_quality(images)
    for k, name in NAMES.items():
        ours = list(figures["per_category"][name].values())
        np.testing.assert_allclose(ours, rows.get(k, (-1, -1, -1)), atol=1e-12)
    for suffix, chosen in (("", NAMES), ("_things", THINGS), ("_stuff", [8])):
        mean = np.mean([rows[k] for k in chosen if k in rows], axis=0)
        ours = [figures[key + suffix] for key in ("PQ", "SQ", "RQ")]
        np.testing.assert_allclose(ours, mean, atol=1e-12)


def test_perfect_and_empty():
    target, true, _, _ = draw(3)
    true = [segment._replace(crowd=False) for segment in true]
    assert gather([(target, true, target, true)]).compute()["PQ"] == 1
    assert gather([]).compute()["PQ"] == -1


def test_categories_of_one_name_are_averaged_apart():
    images = [draw(seed) for seed in range(8)]
    same = PanopticQuality(NAMES | {5: "person"}, THINGS)
    for image in images:
        same.update(*image)
    figures, expected = same.compute(), gather(images).compute()
    rows, expected_rows = figures.pop("per_category"), expected.pop("per_category")
    assert figures == expected
    assert rows["person (3)"] == expected_rows["person"]
    assert rows["person (5)"] == expected_rows["car"]


def test_batches_and_hosts_do_not_matter():
    images = [draw(seed) for seed in range(12)]
    whole = gather(images)
    first, second = gather(images[7:][::-1]), gather(images[:7])
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.compute() == whole.compute()


def write(folder, name, images, with_truth):
    (folder / name).mkdir(exist_ok=True)
    annotations = []
    for i, (ids, segments) in enumerate(images):
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(folder / name / f"{i}.png")
        infos = [{"id": s.id, "category_id": s.category} for s in segments]
        if with_truth:
            for info, segment in zip(infos, segments, strict=True):
                area = int((ids == segment.id).sum())
                info |= {"iscrowd": int(segment.crowd), "area": area}
        annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": infos})
    content = {"annotations": annotations}
    if with_truth:
        categories = [{"id": k, "name": n, "isthing": int(k in THINGS)} for k, n in NAMES.items()]
        content["categories"] = categories
    (folder / f"{name}.json").write_text(json.dumps(content))


def run(folder):
    paths = [f"--annotations={folder}/true.json", f"--predictions={folder}/found.json"]
    return segmentation.main([*paths, "--panoptic", f"--json={folder}/o.json"])


def test_command_line(tmp_path, capsys):
    images = [draw(seed) for seed in range(4)]
    write(tmp_path, "true", [image[:2] for image in images], True)
    write(tmp_path, "found", [image[2:] for image in images], False)
    assert run(tmp_path) == 0
    assert json.loads((tmp_path / "o.json").read_text()) == gather(images).compute()
    assert "PQ_things" in capsys.readouterr().out
    write(tmp_path, "found", [image[2:] for image in images[:3]], False)
    assert run(tmp_path) == 2
    assert "nothing for image 3" in capsys.readouterr().err
    write(tmp_path, "found", [(image[2], image[3][1:]) for image in images], False)
    assert run(tmp_path) == 2
    assert (
        "0.png, image 0: predicted pixels of segments that are not listed"
        in capsys.readouterr().err
    )
    write(tmp_path, "found", [(image[2] * 0, image[3]) for image in images], False)
    assert run(tmp_path) == 2
    assert "predicted segments without pixels" in capsys.readouterr().err
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "found/0.png")
    assert run(tmp_path) == 2
    assert "0.png: needs three channels of 8 bits; this image is I;16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("true", lambda d: d["annotations"].append(d["annotations"][0]), "(image_id 0)"),
        ("found", lambda d: d["annotations"].append(d["annotations"][0]), "image_id given twice"),
        ("true", lambda d: d["annotations"].pop(), "image_id is not in the annotations"),
        ("true", lambda d: d["categories"].append(d["categories"][0]), "categories[4] (id 3)"),
        ("true", lambda d: d.pop("categories"), "true.json: no categories"),
    ],
)
def test_bad_files_are_named(tmp_path, capsys, file, change, message):
    images = [draw(seed) for seed in range(2)]
    write(tmp_path, "true", [image[:2] for image in images], True)
    write(tmp_path, "found", [image[2:] for image in images], False)
    content = json.loads((tmp_path / f"{file}.json").read_text())
    change(content)
    (tmp_path / f"{file}.json").write_text(json.dumps(content))
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
