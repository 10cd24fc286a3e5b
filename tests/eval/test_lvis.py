"""LVIS's figures equal those of the lvis package, stored by tests/golden/make_lvis_golden.py."""

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from eval import detection, files
from eval.lvis import LvisEvaluator
from eval.records import take

GOLDEN = Path(__file__).parents[1] / "golden/lvis.json.gz"
CASES = json.loads(gzip.decompress(GOLDEN.read_bytes()))


def pairs(truth, field):
    rows = [(i, k) for i, image in enumerate(truth.images) for k in getattr(image, field)]
    return np.array(rows, int).reshape(-1, 2)


def read(folder, case):
    (folder / "a.json").write_text(json.dumps(case["dataset"]))
    (folder / "r.json").write_text(json.dumps(case["results"]))
    truth = files.read_coco(folder / "a.json", case["iou_type"], "lvis")
    detections, _ = files.read_coco_results(folder / "r.json", truth, case["iou_type"])
    return truth, detections


def empty_evaluator(truth, case):
    frequencies = {category.id: category.frequency for category in truth.categories}
    return LvisEvaluator(truth.category_names, frequencies, case["iou_type"])


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_equals_the_package(tmp_path, case):
    truth, detections = read(tmp_path, case)
    evaluator = empty_evaluator(truth, case)
    absent = pairs(truth, "neg_category_ids")
    incomplete = pairs(truth, "not_exhaustive_category_ids")
    images = np.arange(len(truth.images))
    evaluator.update(images, truth.objects, detections, absent, incomplete)
    curves = evaluator.curves()
    np.testing.assert_allclose(curves.recall[..., 0], case["recall"], atol=1e-12)
    by_category = curves.precision[..., 0, 0].mean(axis=(0, 1))
    np.testing.assert_allclose(by_category, case["AP_by_category"], atol=1e-12)
    figures = evaluator.compute()
    for key, expected in case["figures"].items():
        size, _, most = key.partition("@")
        assert figures[size + most] == pytest.approx(expected, abs=1e-12)


def test_merged_hosts_equal_one(tmp_path):
    case = CASES[2]
    truth, detections = read(tmp_path, case)
    hosts = [empty_evaluator(truth, case) for _ in range(2)]
    whole = empty_evaluator(truth, case)
    tables = [pairs(truth, f) for f in ("neg_category_ids", "not_exhaustive_category_ids")]
    for i in reversed(range(len(truth.images))):
        batch = (
            [i],
            take(truth.objects, truth.objects.images == i),
            take(detections, detections.images == i),
            *(table[table[:, 0] == i] for table in tables),
        )
        hosts[i % 2].update(*batch)
    whole.update(np.arange(len(truth.images)), truth.objects, detections, *tables)
    hosts[0].merge(pickle.loads(pickle.dumps(hosts[1])))
    assert hosts[0].compute() == whole.compute()


def test_command_line(tmp_path, capsys):
    read(tmp_path, CASES[0])
    paths = [f"--annotations={tmp_path}/a.json", f"--predictions={tmp_path}/r.json", "--style=lvis"]
    assert detection.main([*paths, f"--json={tmp_path}/o.json"]) == 0
    figures = json.loads((tmp_path / "o.json").read_text())
    assert figures["APr"] == pytest.approx(CASES[0]["figures"]["APr"], abs=1e-12)
    assert "APf" in capsys.readouterr().out
    CASES[0]["dataset"]["categories"][0].pop("frequency")
    read(tmp_path, CASES[0])
    assert detection.main(paths) == 2
    assert "has no frequency" in capsys.readouterr().err
