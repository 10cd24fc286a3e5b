"""A run on chips of scenes, and its detections at two scales."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

import eval.detection
from train.config import override
from train.log import read_metrics
from train.loop import train
from train.recipes import RECIPES
from zoo.data import open_detection

CHIPS = '[{"factor": 1.5, "largest": 20}, {"long_side": 48, "smallest": 16}]'
BODY = '{"num_blocks": [1, 1], "stage_dims": [8, 8], "stem_dim": 8, "norm": "batch"}'
TINY = (
    f"--model.backbone_fields={BODY}",
    *("--model.pyramid_dim=8", "--model.box_dims=[16]"),
    *("--data.train_split=train[:40]", "--data.eval_split=test[:10]", "--data.threads=2"),
    *(f"--data.chips={CHIPS}", "--data.chip_side=48", "--data.chip_stride=8"),
    *("--optim.name=adamw", "--optim.warmup_steps=1", "--batch_size=4"),
    *("--steps=2", "--log_every=1", "--eval_every=2", "--checkpoint_every=2"),
)


def _key(entry):
    return entry["image_id"], entry["category_id"], *entry["bbox"]


@pytest.mark.slow
def test_chips_are_trained_on_and_scales_merged(tmp_path, capsys):
    config = override(RECIPES["fasterrcnn_digit_scenes"](), TINY)
    assert len(open_detection(config.data, "train")) > 40
    workdir = tmp_path / "run"
    train(config, workdir, Console(file=io.StringIO()))
    first, last = read_metrics(workdir / "metrics.jsonl")
    assert 0 < first["train/positive_regions"] and 0 <= last["eval/AP"] <= 1
    assert all(np.isfinite(value) for value in first.values())
    jax.clear_caches()

    found = {}
    for name, scales in {
        "one": [],
        "same": ["--scales=64x64"],
        "two": ["--scales=64x64:0-20,96x96:10-"],
    }.items():
        results, figures = tmp_path / f"{name}.json", tmp_path / f"{name}_figures.json"
        options = [f"--workdir={workdir}", "--checkpoint=last", f"--results={results}"]
        assert eval.detection.main([*options, f"--json={figures}", *scales]) == 0
        found[name] = json.loads(results.read_text())
        assert json.loads(figures.read_text())["step"] == 2
    assert {entry["image_id"] for entry in found["two"]} <= set(range(10))
    # The same boxes; overlapping ones have lower scores.
    boxes = {_key(entry): entry["score"] for entry in found["one"]}
    for entry in found["same"]:
        assert entry["score"] <= boxes[_key(entry)] + 1e-6
    assert 0 < len(found["same"]) <= len(found["one"])
    assert eval.detection.main([f"--workdir={workdir}", "--scales=64"]) == 2
    assert "error: --scales: '64' is not SHORTxLONG" in capsys.readouterr().err
