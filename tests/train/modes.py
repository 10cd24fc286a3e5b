"""Tiny runs in one process: python -m tests.train.modes WORKDIR RUN MODE ..."""

import dataclasses
import sys
from pathlib import Path

from rich.console import Console

from tests.train.conftest import TINY
from train.config import Config, ModelConfig, override
from train.loop import train
from train.recipes import RECIPES

STEPS = ("--steps=20", "--log_every=1", "--eval_every=10", "--checkpoint_every=10")
RESNET = {"num_blocks": (1, 1), "stage_dims": (8, 16), "stem_dim": 8}

# A tiny run of each family, with nothing that the model draws, without its overrides.
RUNS = {
    "vit": lambda: override(RECIPES["vit_digits"](), [*TINY, "--accumulate=2", "--ema=0.9"]),
    "resnet": lambda: dataclasses.replace(
        override(RECIPES["vit_digits"](), TINY), model=ModelConfig("resnet_nano", RESNET)
    ),
}


def config_of(name: str, *overrides: str) -> Config:
    return override(RUNS[name](), [*STEPS, *overrides])


def main(workdir: Path, name: str, modes: list[str]) -> None:
    for mode in modes:
        train(config_of(name, f"--parallel={mode}"), workdir / mode, Console(quiet=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
