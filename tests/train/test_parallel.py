import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.conftest import TINY
from train.config import ConfigError
from train.log import read_metrics
from train.parallel import check_divides


def test_a_batch_that_does_not_divide_names_those_that_do():
    check_divides(96, devices=8, accumulate=2)
    with pytest.raises(ConfigError, match=r"batch_size=100 .* 16 shares .*; take 96 or 112$"):
        check_divides(100, devices=8, accumulate=2)
    with pytest.raises(ConfigError, match=r"take 8$"):
        check_divides(7, devices=8, accumulate=1)


def _train(workdir, devices):
    options = ("--steps=20", "--log_every=1", "--eval_every=10", "--accumulate=2")
    command = [sys.executable, "-m", "train", "vit_digits", f"--workdir={workdir}", *TINY, *options]
    flags = f"--xla_force_host_platform_device_count={devices}"
    subprocess.run(
        command,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
    return read_metrics(workdir / "metrics.jsonl")


def test_eight_devices_give_the_losses_of_one(tmp_path):
    one, eight = (_train(tmp_path / str(devices), devices) for devices in (1, 8))
    assert len(one) == len(eight) == 20
    for a, b in zip(one, eight, strict=True):
        assert a.keys() == b.keys()
        # Sums over devices are in another order: the last digits of float32 differ.
        np.testing.assert_allclose(b["train/loss"], a["train/loss"], rtol=1e-5)
    assert one[-1]["eval/top1"] == eight[-1]["eval/top1"]
