"""The training loop: steps, logs, evaluations, checkpoints, and resuming a run."""

import dataclasses
import io
import signal
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen as nn
from jaxtyping import Int
from rich.console import Console

from eval.compiling import announced
from train.checkpoint import Checkpointer, remove_unfinished
from train.clock import Clock, Trace
from train.config import Config
from train.disk import DiskError, why_not_written, without_tracebacks
from train.hosts import caught_signals
from train.log import draw_learning_curve
from train.model import (
    build,
    complete,
    initial_variables,
    with_implied_fields,
    with_preprocessing,
)
from train.optim import make_optimizer, make_schedule
from train.parallel import Parallel
from train.report import Report
from train.step import (
    Metrics,
    TrainState,
    first_metrics,
    make_init,
    make_logged,
    make_step,
    with_initial,
)
from train.workdir import check_same, locked, write_config
from zoo.data import Dataset, prefetch, train_batches
from zoo.data.devices import everywhere, gather, this_process
from zoo.registry import layers_of
from zoo.types import InputError
from zoo.writing import write_whole


class DivergedError(RuntimeError):
    """The loss or a gradient is not finite."""


@dataclasses.dataclass
class Result:
    """How a run ended.

    Attributes:
        step: The last step.
        figures: Figures of the last evaluation.
        skipped: Number of images that could not be read and were left out.
        signal: The signal that stopped the run; None if it is complete.
    """

    step: int
    figures: dict[str, float]
    skipped: int
    signal: signal.Signals | None


def train(config: Config, workdir: epath.PathLike, console: Console) -> Result:
    """Trains, or resumes the run that is in `workdir`.

    Raises:
        zoo.types.InputError: If the settings contradict each other or the run in `workdir`; if the
            data cannot be read; or if all checkpoints to resume from are damaged.
        DivergedError: If the loss or a gradient is not finite.
        DiskError: If a file of the run cannot be written, because the disk is full, say.
    """
    workdir = epath.Path(workdir)
    with without_tracebacks():
        try:
            with caught_signals() as stops, ExitStack() as resources:
                return _Run(config, workdir, console, resources).go(stops)
        except Exception as error:  # Orbax and TensorStore give errors of the disk other types
            if (reason := why_not_written(error)) is None:
                raise
            good = remove_unfinished(workdir / "checkpoints")
            raise DiskError(
                f"{workdir} cannot be written: {reason};"
                f" last good checkpoint: {good or 'none yet'};"
                " once it can be written again, the same command continues from there"
            ) from error


class _Run:
    """A run on this process: its programs, its state and its position in the data."""

    def __init__(
        self, config: Config, workdir: epath.Path, console: Console, resources: ExitStack
    ) -> None:
        self.times = Clock()
        self.under_way: deque[Int[jax.Array, ""]] = deque()  # a result of each step that may run
        self.first = jax.process_index() == 0  # only the first process writes files
        opened = everywhere(lambda: _open(config, workdir), InputError)
        self.config, self.examples, self.held_out = opened
        config = self.config
        self.workdir, self.console = workdir, console
        self.parallel = parallel = Parallel(config)

        self.batches = prefetch(self.host_batches(), parallel.put)
        resources.callback(self.batches.close)
        self.saved = (0, self.batches.get_state())  # step and data position of the last checkpoint
        batch = everywhere(lambda: next(self.batches), InputError)  # its shapes are needed
        model, variables = build(config, batch)
        optimizer = make_optimizer(
            config.optim, config.steps, variables["params"], layers_of(model)
        )
        step = make_step(config, model, optimizer, parallel.replicas)
        schedule = make_schedule(config.optim, config.steps)
        everywhere(lambda: resources.enter_context(self.claim()), InputError)
        self.checkpoints = Checkpointer(workdir / "checkpoints", config.keep, self.warn)
        resources.callback(self.checkpoints.close)
        initial = self.initial(model)  # before anything compiles, in case it does not fit
        name = config.model.name
        say = partial(console.print, soft_wrap=True)
        start = announced(parallel.init, f"the first state of {name}", say)
        self.state: TrainState = start(make_init(config, model, optimizer), batch)
        self.step = parallel.compile(make_logged(step, schedule, config.log_every))
        self.run_step = announced(self.step, f"a step of {name}", say)
        self.metrics: Metrics = parallel.replicate(first_metrics(step, self.state, batch))
        self.evaluate = config.task.evaluator(
            model, config.data, self.held_out, config.batch_size, parallel.put
        )
        self.draw = config.task.pictures(model, config.data, self.held_out, parallel.put)

        if config.optim.warmup_steps >= config.steps:
            console.print(f"note: all {config.steps} steps are in the warm-up of the learning rate")
        self.resume(initial)
        self.batches.set_state(self.saved[1])
        if self.first:
            write_config(workdir, config, self.examples, self.held_out)
            resources.callback(draw_learning_curve, workdir)
        self.log = Report(config, workdir, console, self.times, self.saved[0])
        resources.callback(self.log.close)
        self.trace = Trace(config.profile, workdir)
        resources.callback(self.trace.close)

    def host_batches(self) -> Any:
        """This process's rows of the batches, from the first batch on."""
        config = self.config
        return train_batches(self.examples, config.batch_size, seed=config.seed, **this_process())

    def claim(self) -> AbstractContextManager[None]:
        """The lock of the folder, which the first process holds for all processes."""
        return locked(self.workdir) if self.first else nullcontext()

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self.console.print(f"warning: {text}", soft_wrap=True)

    def initial(self, model: nn.Module) -> dict[str, Any] | None:
        """The variables that a new run is given to start from; None without, and on resuming."""
        if self.checkpoints.latest is not None:
            return None
        return everywhere(lambda: initial_variables(self.config, model, self.console), InputError)

    def resume(self, initial: dict[str, Any] | None) -> None:
        """Restores the newest checkpoint; without one, sets the initial variables if any."""
        if self.checkpoints.latest is None:
            if initial is not None:
                self.state = with_initial(self.state, initial, self.parallel.place)
            return
        notes = everywhere(
            lambda: check_same(
                self.workdir, self.config, self.examples, self.held_out, self.checkpoints.latest
            ),
            InputError,
        )
        for note in notes:
            self.console.print(f"note: {note}", soft_wrap=True)
        if (restored := self.checkpoints.restore_latest(self.state, self.metrics)) is not None:
            self.state, self.metrics, position, step = restored
            self.saved = (step, position)
            self.console.print(f"resuming {self.workdir} after step {step}", soft_wrap=True)

    def go(self, stops: Callable[[int], signal.Signals | None]) -> Result:
        """Takes the remaining steps, or those until a signal comes."""
        config, step = self.config, self.saved[0]
        figures = self.evaluate(self.state.evaluated()) if step == config.steps else {}
        pending: tuple[int, Metrics] | None = None  # to be reported while the next step runs
        stopped_by = stops(step)
        with self.log.bar if self.first else nullcontext():
            while step < config.steps and not stopped_by:
                step += 1
                self.take_step(step)
                if pending is not None:
                    self.report(*pending, {})
                    pending = None
                if traced := self.trace.after(step, self.metrics):
                    self.console.print(f"trace: {traced}", soft_wrap=True)
                last = step == config.steps
                logs = last or step % config.log_every == 0
                evaluates = last or step % config.eval_every == 0
                stopped_by = stops(step)  # every process asks after every step
                if evaluates or stopped_by or step % config.checkpoint_every == 0:
                    figures = self.finish_step(step, logs=logs, evaluates=evaluates)
                elif logs:
                    pending = (step, self.metrics)
                self.log.advance(step)
        with self.times.part("checkpoint"):
            self.checkpoints.wait()
        self.console.print(self.times.summary(), soft_wrap=True)
        # A run whose last step is done is complete, even if a signal came during that step.
        stopped_by = stopped_by if step < config.steps else None
        return Result(step, figures, sum(gather(self.examples.skipped)), stopped_by)

    def take_step(self, step: int) -> None:
        """Starts a step on the next batch; waits for the first step, which compiles."""
        self.trace.before(step)
        with self.times.part("data"):
            batch = next(self.batches)
        with self.times.part("step"):
            self.state, self.metrics = self.run_step(self.state, self.metrics, batch)
            self.under_way.append(self.metrics.bad_step)
            if len(self.under_way) > 2:  # at most two steps ahead, so that stopping is quick
                self.under_way.popleft().block_until_ready()
        if not self.times.seconds["start"]:
            self.metrics.bad_step.block_until_ready()
            self.times.started()

    def finish_step(self, step: int, *, logs: bool, evaluates: bool) -> dict[str, float]:
        """Saves a checkpoint after a step, logged and evaluated if asked for; returns figures."""
        with self.times.part("step"):
            self.check(self.metrics)
        with self.times.part("evaluation"):
            figures = self.evaluate(self.state.evaluated()) if evaluates else {}
        if logs or evaluates:
            self.report(step, self.metrics if logs else None, figures)
        with self.times.part("checkpoint"):
            self.save(step, figures.get(self.config.task.best))
        if evaluates:
            with self.times.part("evaluation"):
                self.draw_pictures(step)
        return figures

    def report(self, step: int, metrics: Metrics | None, figures: dict[str, float]) -> None:
        """Reports a step, after checking that it was finite."""
        if metrics is not None:
            self.check(metrics)
        self.log.write(step, metrics, figures)

    def check(self, metrics: Metrics) -> None:
        """Raises DivergedError, and writes the batch, if a loss or gradient was not finite."""
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
        """Writes the batch of a step, with the rows of all hosts."""
        size, seed = self.config.batch_size, self.config.seed
        with closing(train_batches(self.examples, size, seed=seed)) as batches:
            batches.set_state({"batch": step - 1})  # one batch for each step
            batch = next(batches)
        content = io.BytesIO()
        np.savez(content, **batch)  # pyright: ignore[reportArgumentType]
        write_whole(path, content.getvalue())

    def save(self, step: int, score: float | None) -> None:
        """Starts a checkpoint of this step."""
        position = self.batches.get_state()
        self.checkpoints.save(self.state, self.metrics, position, step=step, score=score)
        self.saved = (step, position)
        self.log.restart_clock(step)

    def draw_pictures(self, step: int) -> None:
        """Draws the task's pictures into ``DIR/pictures/STEP``; those of other steps are kept."""
        if self.draw is None:
            return
        with tempfile.TemporaryDirectory() as drawn:  # all hosts draw, the first one keeps
            self.draw(self.state.evaluated(), Path(drawn))
            if self.first:
                folder = self.workdir / "pictures" / str(step)
                folder.mkdir(parents=True, exist_ok=True)
                for path in Path(drawn).iterdir():
                    write_whole(folder / path.name, path.read_bytes())
        self.log.restart_clock(step)


def _open(config: Config, workdir: epath.Path) -> tuple[Config, Dataset, Dataset]:
    """The completed settings, and the examples for training and for evaluation."""
    config = with_preprocessing(config, workdir)
    examples = config.task.open(config.data, "train")
    config = with_implied_fields(complete(config, examples), workdir)
    return config, examples, config.task.open(config.data, "eval")
