"""Scoring files of boxes goes without JAX."""

import inspect
import json
import subprocess
import sys

import eval.ragged
import zoo.ops.ragged

CODE = """
import sys
from eval.detection import main
assert main(sys.argv[1:]) == 0
assert not {"jax", "zoo"} & set(sys.modules)
"""


def test_scoring_boxes_does_not_import_jax(tmp_path):
    box = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}
    truth = {
        "images": [{"id": 1, "height": 8, "width": 8}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [{"id": 1, "area": 12, **box}],
    }
    names = {"annotations": truth, "predictions": [{"score": 1, **box}]}
    for name, content in names.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    arguments = [f"--{name}={tmp_path / name}.json" for name in names]
    subprocess.run([sys.executable, "-c", CODE, *arguments], check=True, stdout=subprocess.PIPE)


def test_evals_ragged_lists_are_zoos():
    for name in ("lengths_to_offsets", "spread", "blocks"):
        ours, theirs = (inspect.getsource(getattr(m, name)) for m in (eval.ragged, zoo.ops.ragged))
        assert ours == theirs
