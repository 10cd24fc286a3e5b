"""Where a run's time goes: shares of it, and a trace of a few steps."""

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
        seconds: ``start``, until the first step is compiled and done; then waiting for ``data``;
            handing out a ``step`` and waiting for the devices; ``checkpoint``, as far as it
            blocks; and ``evaluation``. What is missing to the whole is logging.
    """

    def __init__(self) -> None:
        self._begin = self._lap = time.monotonic()
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._before = dict(self.seconds)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time inside as spent on a part."""
        begin = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - begin

    def started(self) -> None:
        """Everything until now was the start."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self._lap = time.monotonic()
        self.seconds["start"] = self._lap - self._begin
        self._before = dict(self.seconds)

    def shares(self) -> dict[str, float]:
        """Share of each part of the time since the shares were last asked for."""
        now = time.monotonic()
        spent = {name: value - self._before[name] for name, value in self.seconds.items()}
        whole = max(now - self._lap, 1e-9)
        self._lap, self._before = now, dict(self.seconds)
        return {f"time/{name}": value / whole for name, value in spent.items() if name != "start"}

    def summary(self) -> str:
        """A line: the parts of the whole run, and the goodput, the share that went into steps."""
        whole = time.monotonic() - self._begin
        parts = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        return f"{whole:.1f} s: {parts}; goodput {self.seconds['step'] / whole:.0%}"


class Trace:
    """A trace of the steps that the settings name, for TensorBoard and Perfetto."""

    def __init__(self, config: ProfileConfig, workdir: epath.Path) -> None:
        self._span, self._folder, self._running = config.span, workdir / "profile", False

    def before(self, step: int) -> None:
        """Begins with the first of the steps."""
        if self._span and step == self._span[0]:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._running = True

    def after(self, step: int, result: Any) -> str | None:
        """Ends after the last one, when `result` is there; returns where the trace is."""
        if not self._running or not self._span or step < self._span[-1]:
            return None
        jax.block_until_ready(result)
        self.close()
        return str(self._folder)

    def close(self) -> None:
        """Ends a trace of steps that did not come."""
        if self._running:
            jax.profiler.stop_trace()
        self._running = False
