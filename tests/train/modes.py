"""Tiny runs: python -m tests.train.modes WORKDIR RUN MODE ... [--stop=STEP] [--field=value ...]"""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.train.conftest import TINY
from train.config import Config, ModelConfig, override
from train.hosts import join
from train.loop import _Run, train
from train.recipes import RECIPES

ROOT = Path(__file__).parents[2]
STEPS = ("--steps=20", "--log_every=1", "--eval_every=20", "--checkpoint_every=10")
# This run keeps the warm-up of the recipe. With a warm-up of 5 steps, differences of 1e-7 between
# modes grow from step 10 on, to 1e-4 at step 20. The U-Net does not have this problem.
DETR = (
    "--model.hidden_dim=16",
    "--model.num_heads=2",
    "--model.mlp_dim=16",
    "--model.num_encoder_layers=1",
    "--model.num_decoder_layers=2",
    '--model.backbone_fields={"num_blocks": [1], "stage_dims": [8], "norm": "batch"}',
    "--batch_size=16",
    "--data.threads=2",
    "--data.train_split=train[:50]",
    "--data.eval_split=test[:12]",
)
# All anchors and regions are drawn, so no random number decides.
FASTER_RCNN = (
    '--model.backbone_fields={"num_blocks": [1, 1], "stage_dims": [8, 8], "stem_dim": 8,'
    ' "norm": "batch"}',
    "--model.pyramid_dim=16",
    "--model.box_dims=[16]",
    '--model.anchor_sampling={"num": 4096, "positive_fraction": 1.0}',
    '--model.roi_sampling={"num": 80, "positive_fraction": 1.0}',
    "--batch_size=16",
    "--data.threads=2",
    "--data.train_split=train[:50]",
    "--data.eval_split=test[:12]",
)
UNET = (
    "--model.name=unet",
    "--model.padding=same",
    "--model.norm=batch",
    "--model.depth=1",
    "--model.base_dim=4",
    "--model.dropout=0",  # each replica would draw different numbers
    "--data.image_size=32,32",
    "--data.train_split=train[:64]",
    "--data.eval_split=test[:6]",
    "--data.threads=2",
    "--batch_size=16",
    "--optim.warmup_steps=5",
)
RESNET = {"num_blocks": (1, 1), "stage_dims": (8, 16), "stem_dim": 8}

# A tiny run of each family whose model draws no random numbers. A run that is added here is in
# every test of the modes.
RUNS = {
    "vit": lambda: override(RECIPES["vit_digits"](), [*TINY, "--accumulate=2", "--ema=0.9"]),
    "resnet": lambda: dataclasses.replace(
        override(RECIPES["vit_digits"](), TINY), model=ModelConfig("resnet_nano", RESNET)
    ),
    "unet": lambda: override(RECIPES["unet_digit_scenes"](), UNET),
    "detr": lambda: override(RECIPES["detr_digit_scenes"](), DETR),
    "faster_rcnn": lambda: override(RECIPES["fasterrcnn_digit_scenes"](), FASTER_RCNN),
}


def config_of(name: str, *overrides: str) -> Config:
    return override(RUNS[name](), [*STEPS, *overrides])


def start(*arguments: object, devices: int) -> subprocess.Popen[bytes]:
    """Starts ``python -m`` with these arguments, in a process with simulated devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(*processes: subprocess.Popen[bytes]) -> list[str]:
    """Waits for the processes and gives their outputs; all must exit with 0."""
    outputs = [process.communicate(timeout=600)[0].decode() for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def _stop_at(step: int) -> None:
    """Makes the first process send SIGTERM to itself after it has logged the step."""
    report = _Run.report

    def report_and_stop(self: _Run, number: int, *rest: Any) -> None:
        report(self, number, *rest)
        if number == step and self.first:
            signal.raise_signal(signal.SIGTERM)

    _Run.report = report_and_stop


def main(arguments: list[str]) -> None:
    overrides = [text for text in arguments if text.startswith("--")]
    workdir, name, *modes = (text for text in arguments if not text.startswith("--"))
    stop = [int(text[7:]) for text in overrides if text.startswith("--stop=")]
    overrides = [text for text in overrides if not text.startswith("--stop=")]
    if stop:
        _stop_at(*stop)
    join(config_of(name, *overrides).distributed)
    for mode in modes:
        config = config_of(name, *overrides, f"--parallel={mode}")
        train(config, Path(workdir) / (mode if len(modes) > 1 else ""), Console(quiet=True))


if __name__ == "__main__":
    main(sys.argv[1:])
