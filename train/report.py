"""Shows and logs the progress of a run."""

import time

import jax
from etils import epath
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from train.clock import Clock
from train.config import Config
from train.log import MetricsLog
from train.step import Metrics


class Report:
    """The progress bar, a line on the console for each logged step, and the files of `MetricsLog`.

    Attributes:
        bar: The progress bar, a context manager.
    """

    def __init__(
        self, config: Config, workdir: epath.Path, console: Console, times: Clock, step: int
    ) -> None:
        """Starts after a step; only the first process writes files."""
        self._batch_size, self._console, self._times = config.batch_size, console, times
        self._log = MetricsLog(workdir, step) if jax.process_index() == 0 else None
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self.bar.add_task("", total=config.steps, completed=step, speed="")
        self.restart_clock(step)

    def restart_clock(self, step: int) -> None:
        """Measures the speed from now on, so that other work than steps does not count."""
        self._clock = time.monotonic(), step

    def advance(self, step: int) -> None:
        """Moves the progress bar to a step."""
        self.bar.update(self._task, completed=step)

    def write(self, step: int, metrics: Metrics | None, figures: dict[str, float]) -> None:
        """Logs the means up to a step, if there are metrics, and the figures of an evaluation."""
        entry: dict[str, float] = {}
        speeds: dict[str, float] = {}
        if metrics is not None:
            entry = _training_figures(metrics)
            since, first = self._clock
            speed = (step - first) * self._batch_size / (time.monotonic() - since)
            speeds = {"speed/examples_per_second": speed, **self._times.shares()}
            self.bar.update(self._task, speed=f"{speed:,.0f} examples/s")
        entry |= {f"eval/{name}": float(value) for name, value in figures.items()}
        if self._log is not None:
            self._log.write(step, entry, speeds)
        shown = "  ".join(
            f"{name.removeprefix('train/')} {value:.4g}"
            for name, value in entry.items()
            if name != "train/grad_norm"
        )
        self._console.print(f"step {step}  {shown}", soft_wrap=True)
        self.restart_clock(step)

    def close(self) -> None:
        """Writes the remaining events."""
        if self._log is not None:
            self._log.close()


def _training_figures(metrics: Metrics) -> dict[str, float]:
    """The means of training and the learning rate, by their names in the log."""
    means = jax.device_get(metrics.means)
    norm = means.pop("grad_norm")
    in_order = {"loss": means.pop("loss"), **means, "grad_norm": norm}
    # Divided by numpy: an operation of JAX would wait for the step that is running.
    values = {name: mean.total / (mean.weight or 1) for name, mean in in_order.items()}
    return {
        **{f"train/{name}": float(value) for name, value in values.items()},
        "train/learning_rate": float(metrics.learning_rate),
    }
