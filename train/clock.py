"""How a run spends its time: the share of each part, and a trace of a few steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from etils import epath

from train.config import ProfileConfig

PARTS = ("start", "data", "step", "checkpoint", "evaluation")


class Clock:
    """The seconds that the host spends on each part of a run.

    Attributes:
        seconds: ``start``: until the first step is compiled and done. After that, ``data``: waiting
            for batches; ``step``: starting steps and waiting for the devices; ``checkpoint``: the
            part of saving that the run waits for; ``evaluation``. Logging is in none of them.
    """

    def __init__(self) -> None:
        self._begin = self._lap = time.monotonic()
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._before = dict(self.seconds)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time in the ``with`` block to a part."""
        begin = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - begin

    def started(self) -> None:
        """Counts all time until now as the start."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self._lap = time.monotonic()
        self.seconds["start"] = self._lap - self._begin
        self._before = dict(self.seconds)

    def shares(self) -> dict[str, float]:
        """Share of each part in the time since the last call."""
        now = time.monotonic()
        spent = {name: value - self._before[name] for name, value in self.seconds.items()}
        whole = max(now - self._lap, 1e-9)
        self._lap, self._before = now, dict(self.seconds)
        return {f"time/{name}": value / whole for name, value in spent.items() if name != "start"}

    def summary(self) -> str:
        """One line: the seconds of each part of the run, and the share of the steps (goodput)."""
        whole = time.monotonic() - self._begin
        parts = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        return f"{whole:.1f} s: {parts}; goodput {self.seconds['step'] / whole:.0%}"


class Trace:
    """A trace of the steps that the settings name, for TensorBoard and Perfetto."""

    def __init__(self, config: ProfileConfig, workdir: epath.Path) -> None:
        self._span, self._folder, self._running = config.span, workdir / "profile", False

    def before(self, step: int) -> None:
        """Starts the trace if this is its first step."""
        if self._span and step == self._span[0]:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._running = True

    def after(self, step: int, result: Any) -> str | None:
        """Stops the trace after its last step, when `result` is computed; returns its folder."""
        if not self._running or not self._span or step < self._span[-1]:
            return None
        jax.block_until_ready(result)
        self.close()
        return str(self._folder)

    def close(self) -> None:
        """Stops a trace that is still running."""
        if self._running:
            jax.profiler.stop_trace()
        self._running = False
