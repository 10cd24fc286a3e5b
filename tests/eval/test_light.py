"""Files of boxes are scored without importing JAX."""

import json
import subprocess
import sys

import pytest

HEAVY = '{"jax", "flax", "tensorflow_datasets", "grain", "orbax", "cv2"}'

CODE = f"""
import sys
from eval.detection import main
assert main(sys.argv[1:]) == 0
assert not {HEAVY} & set(sys.modules)
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


FORMATS = ["coco", "coco_results", "voc", "panoptic", "folders", "json_file", "results"]


@pytest.mark.parametrize("name", [*(f"formats.{name}" for name in FORMATS), "decode"])
def test_readers_of_files_do_not_import_jax(name):
    code = f"import sys, zoo.data.{name}; assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
