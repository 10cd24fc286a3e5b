"""The training loop: steps, logs, evaluations, checkpoints, and resuming where a run stopped."""

import dataclasses
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen as nn
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from train.checkpoint import Checkpointer
from train.clock import Clock, Trace
from train.config import Config
from train.hosts import caught_signals
from train.log import MetricsLog, draw_learning_curve
from train.optim import make_optimizer, make_schedule
from train.parallel import Parallel
from train.step import (
    Metrics,
    TrainState,
    first_metrics,
    make_init,
    make_logged,
    make_step,
    with_initial,
)
from train.workdir import (
    build,
    check_same,
    complete,
    initial_variables,
    locked,
    write_config,
)
from zoo.data import Dataset, prefetch, train_batches
from zoo.data.devices import everywhere, gather, this_process
from zoo.types import InputError


class DivergedError(RuntimeError):
    """The loss is not finite any more."""


@dataclasses.dataclass
class Result:
    """How a run ended.

    Attributes:
        step: After which step.
        figures: Of its last evaluation.
        skipped: Images that could not be read and were left out.
        signal: What stopped it; None if it is done.
    """

    step: int
    figures: dict[str, float]
    skipped: int
    signal: signal.Signals | None


def train(config: Config, workdir: epath.PathLike, console: Console) -> Result:
    """Trains, or goes on with the run that is in `workdir`.

    Raises:
        zoo.types.InputError: If the settings do not fit together, or not the run that is there; if
            the data cannot be read; or if the checkpoint to go on from is damaged.
        DivergedError: If the loss or a gradient stops being finite.
    """
    with caught_signals() as stops, ExitStack() as resources:
        return _Run(config, epath.Path(workdir), console, resources).go(stops)


class _Run:
    """A run on this process: what it computes with, and where it is."""

    def __init__(
        self, config: Config, workdir: epath.Path, console: Console, resources: ExitStack
    ) -> None:
        self.times = Clock()
        self.first = jax.process_index() == 0  # the one that writes
        opened = everywhere(lambda: _open(config), InputError)
        self.config, self.examples, held_out = opened
        config = self.config
        self.workdir, self.console = workdir, console
        self.parallel = parallel = Parallel(config)

        self.batches = prefetch(self.host_batches(), parallel.put)
        resources.callback(self.batches.close)
        self.saved = (0, self.batches.get_state())  # newest checkpoint: step, position in the data
        batch = everywhere(lambda: next(self.batches), InputError)  # for its shapes
        model, variables = build(config, batch)
        optimizer = make_optimizer(config.optim, config.steps, variables["params"])
        step = make_step(config, model, optimizer, parallel.replicas)
        schedule = make_schedule(config.optim, config.steps)
        everywhere(lambda: resources.enter_context(self.claim()), InputError)
        self.checkpoints = Checkpointer(workdir / "checkpoints", config.keep, self.warn)
        resources.callback(self.checkpoints.close)
        initial = self.initial(model)  # before anything compiles: its file may not fit
        self.state: TrainState = parallel.init(make_init(config, model, optimizer), batch)
        self.step = parallel.compile(make_logged(step, schedule, config.log_every))
        self.metrics: Metrics = parallel.replicate(first_metrics(step, self.state, batch))
        self.evaluate = config.task.evaluator(
            model, config.data, held_out, config.batch_size, parallel.put
        )
        self.draw = config.task.pictures(model, config.data, held_out, parallel.put)

        if config.optim.warmup_steps >= config.steps:
            console.print(f"note: all {config.steps} steps are in the warm-up of the learning rate")
        self.resume(initial)
        self.batches.set_state(self.saved[1])
        if self.first:
            write_config(workdir, config, self.examples)
            resources.callback(draw_learning_curve, workdir)
            self.log = MetricsLog(workdir, self.saved[0])
            resources.callback(self.log.close)
        self.trace = Trace(config.profile, workdir)
        resources.callback(self.trace.close)
        self.clock = time.monotonic(), self.saved[0]  # when the speed was last measured, and where
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.bar = self.progress.add_task("", total=config.steps, completed=self.saved[0], speed="")

    def host_batches(self) -> Any:
        """This process's part of the batches, from the first one on."""
        config = self.config
        return train_batches(self.examples, config.batch_size, seed=config.seed, **this_process())

    def claim(self) -> AbstractContextManager[None]:
        """The lock of the folder, which the first process holds for all of them."""
        return locked(self.workdir) if self.first else nullcontext()

    def warn(self, text: str) -> None:
        """Says what went wrong without stopping the run."""
        self.console.print(f"warning: {text}", soft_wrap=True)

    def initial(self, model: nn.Module) -> dict[str, Any] | None:
        """The variables that a new run starts from; None where there are none, or on resuming."""
        if self.checkpoints.latest is not None:
            return None
        return everywhere(lambda: initial_variables(self.config, model, self.console), InputError)

    def resume(self, initial: dict[str, Any] | None) -> None:
        """Goes back to the newest checkpoint, if there is one; else to where the settings start."""
        if self.checkpoints.latest is None:
            if initial is not None:
                self.state = with_initial(self.state, initial, self.parallel.place)
            return
        everywhere(lambda: check_same(self.workdir, self.config, self.examples), InputError)
        if (restored := self.checkpoints.restore_latest(self.state, self.metrics)) is not None:
            self.state, self.metrics, position, step = restored
            self.saved = (step, position)
            self.console.print(f"resuming {self.workdir} after step {step}", soft_wrap=True)

    def go(self, stops: Callable[[int], signal.Signals | None]) -> Result:
        """Takes the steps that are left, or as many as there are before a signal."""
        config, step, times = self.config, self.saved[0], self.times
        figures = self.evaluate(self.state.evaluated()) if step == config.steps else {}
        pending: tuple[int, Metrics] | None = None
        under_way: deque[jax.Array] = deque()
        stopped_by = stops(step)
        with self.progress if self.first else nullcontext():
            while step < config.steps and not stopped_by:
                step += 1
                self.trace.before(step)
                with times.part("data"):
                    batch = next(self.batches)
                with times.part("step"):
                    self.state, self.metrics = self.step(self.state, self.metrics, batch)
                    under_way.append(self.metrics.bad_step)
                    if len(under_way) > 2:  # no further ahead, so that stopping is quick
                        under_way.popleft().block_until_ready()
                if not times.seconds["start"]:
                    self.metrics.bad_step.block_until_ready()
                    times.started()
                if pending is not None:  # what an earlier step logged, while this one is under way
                    self.report(*pending, {})
                    pending = None
                if traced := self.trace.after(step, self.metrics):
                    self.console.print(f"trace: {traced}", soft_wrap=True)
                last = step == config.steps
                logs = last or step % config.log_every == 0
                evaluates = last or step % config.eval_every == 0
                stopped_by = stops(step)  # looked at once: a signal may come at any time
                if evaluates or stopped_by or step % config.checkpoint_every == 0:
                    with times.part("step"):
                        self.check(self.metrics)
                    with times.part("evaluation"):
                        figures = self.evaluate(self.state.evaluated()) if evaluates else {}
                    if logs or evaluates:
                        self.report(step, self.metrics if logs else None, figures)
                    with times.part("checkpoint"):
                        self.save(step, figures.get(config.task.best))
                    if evaluates:
                        with times.part("evaluation"):
                            self.draw_pictures(step)
                elif logs:
                    pending = (step, self.metrics)
                self.progress.update(self.bar, completed=step)
        with times.part("checkpoint"):
            self.checkpoints.wait()
        self.console.print(times.summary(), soft_wrap=True)
        # A signal during the last step finds the run done.
        stopped_by = stopped_by if step < config.steps else None
        return Result(step, figures, sum(gather(self.examples.skipped)), stopped_by)

    def report(self, step: int, metrics: Metrics | None, figures: dict[str, float]) -> None:
        """Writes the entry of a step: the means up to it, and an evaluation."""
        entry: dict[str, float] = {}
        speeds: dict[str, float] = {}
        if metrics is not None:
            self.check(metrics)
            means = jax.device_get(metrics.means)
            norm = means.pop("grad_norm")
            in_order = {"loss": means.pop("loss"), **means, "grad_norm": norm}
            # On the host: an operation of JAX would wait for the step that is under way.
            values = {name: mean.total / (mean.weight or 1) for name, mean in in_order.items()}
            entry = {f"train/{name}": float(value) for name, value in values.items()}
            entry["train/learning_rate"] = float(metrics.learning_rate)
            since, first = self.clock
            speed = (step - first) * self.config.batch_size / (time.monotonic() - since)
            speeds = {"speed/examples_per_second": speed, **self.times.shares()}
            self.progress.update(self.bar, speed=f"{speed:,.0f} examples/s")
        entry |= {f"eval/{name}": float(value) for name, value in figures.items()}
        if self.first:
            self.log.write(step, entry, speeds)
        shown = "  ".join(
            f"{name.removeprefix('train/')} {value:.4g}"
            for name, value in entry.items()
            if name != "train/grad_norm"
        )
        self.console.print(f"step {step}  {shown}", soft_wrap=True)
        self.clock = time.monotonic(), step

    def check(self, metrics: Metrics) -> None:
        """Raises DivergedError, and keeps the batch, if a step has been without a finite loss."""
        bad = int(metrics.bad_step)
        if bad < 0:
            return
        step, _ = self.saved
        kept = self.workdir / f"bad_batch_step{bad}.npz"
        if self.first:
            self.keep_batch(bad, kept)
        good = f"{self.workdir / 'checkpoints' / str(step)}" if step else "none yet"
        raise DivergedError(
            f"the loss or a gradient is not finite at step {bad}; its batch: {kept};"
            f" last good checkpoint: {good}"
        )

    def keep_batch(self, step: int, path: epath.Path) -> None:
        """Writes the batch of a step, the rows of all hosts."""
        size, seed = self.config.batch_size, self.config.seed
        with closing(train_batches(self.examples, size, seed=seed)) as batches:
            batches.set_state({"batch": step - 1})  # a batch a step
            batch = next(batches)
        with path.open("wb") as file:
            np.savez(file, **batch)  # pyright: ignore[reportArgumentType]

    def save(self, step: int, score: float | None) -> None:
        """Starts a checkpoint of this step."""
        position = self.batches.get_state()
        self.checkpoints.save(self.state, self.metrics, position, step=step, score=score)
        self.saved = (step, position)
        self.clock = time.monotonic(), step

    def draw_pictures(self, step: int) -> None:
        """The task's pictures of this step, in ``DIR/pictures/STEP``; those of other steps stay."""
        if self.draw is None:
            return
        with tempfile.TemporaryDirectory() as drawn:  # every host computes them, the first keeps
            self.draw(self.state.evaluated(), Path(drawn))
            if self.first:
                folder = self.workdir / "pictures" / str(step)
                folder.mkdir(parents=True, exist_ok=True)
                for path in Path(drawn).iterdir():
                    (folder / path.name).write_bytes(path.read_bytes())
        self.clock = time.monotonic(), step


def _open(config: Config) -> tuple[Config, Dataset, Dataset]:
    """The completed settings, and the examples to train and to evaluate on."""
    examples = config.task.open(config.data, "train")
    return complete(config, examples), examples, config.task.open(config.data, "eval")
