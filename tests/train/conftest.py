import dataclasses
import io

import pytest
from rich.console import Console

from train.config import override
from train.loop import train
from train.recipes import RECIPES

TINY = (
    "--model.num_layers=1",
    "--model.hidden_dim=16",
    "--model.mlp_dim=32",
    "--model.num_heads=2",
    "--model.patch_size=4",
    "--batch_size=16",
    "--optim.warmup_steps=5",
    "--data.threads=2",
    "--data.mixup=0",  # its Beta distribution takes longer to compile than all other code
)


@pytest.fixture
def tiny():
    """The digits recipe with a tiny model, small batches, and further overrides."""

    def make(*overrides):
        return override(RECIPES["vit_digits"](), [*TINY, *overrides])

    return make


@pytest.fixture
def run(tiny, tmp_path):
    """Trains the tiny recipe in a new folder; returns the folder, the result and the output."""

    def go(*overrides, workdir="run", task=None):
        config = tiny(*overrides)
        if task is not None:
            config = dataclasses.replace(config, task=task)
        output = io.StringIO()
        result = train(config, tmp_path / workdir, Console(file=output, width=200))
        return tmp_path / workdir, result, output.getvalue()

    return go
