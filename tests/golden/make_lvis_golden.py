"""Makes lvis.json.gz: small federated sets and the lvis package's figures for them.

pip install lvis; PYTHONPATH=. python tests/golden/make_lvis_golden.py

The package (0.5.3) is no dependency of the tests, because it needs opencv-python and `np.float`,
which numpy 2 does not have.
"""

import copy
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np

from tests.eval.generate import federated

if not hasattr(np, "float"):
    np.float = float  # the package uses it

from lvis import LVIS, LVISEval, LVISResults


def official(dataset: dict, results: list[dict], iou_type: str) -> dict:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(dataset, file)
        file.flush()
        truth = LVIS(file.name)
    found = LVISResults(truth, copy.deepcopy(results))
    evaluation = LVISEval(truth, found, iou_type)
    evaluation.run()
    figures = {key: float(value) for key, value in evaluation.results.items()}
    per_category = evaluation.eval["precision"][..., 0].mean(axis=(0, 1)).tolist()
    recall = evaluation.eval["recall"].tolist()
    return {"figures": figures, "AP_by_category": per_category, "recall": recall}


def main() -> None:
    cases = []
    for seed in range(14):
        iou_type = "segm" if seed % 4 == 3 else "bbox"
        dataset, results = federated(seed, iou_type)
        if not results:
            continue
        case = {"iou_type": iou_type, "dataset": dataset, "results": results}
        cases.append(case | official(dataset, results, iou_type))
    path = Path(__file__).parent / "lvis.json.gz"
    path.write_bytes(gzip.compress(json.dumps(cases).encode(), mtime=0))


if __name__ == "__main__":
    main()
