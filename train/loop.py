"""The training loop: steps, logs, evaluations, checkpoints, and resuming where a run stopped."""

import dataclasses
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
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
from train.config import Config
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
from zoo.data import prefetch, train_batches


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


def train(config: Config, workdir: Path, console: Console) -> Result:
    """Trains, or goes on with the run that is in `workdir`.

    Raises:
        zoo.types.InputError: If the settings do not fit together, or not the run that is there; if
            the data cannot be read; or if the checkpoint to go on from is damaged.
        DivergedError: If the loss or a gradient stops being finite.
    """
    with _caught_signals() as received, ExitStack() as resources:
        return _Run(config, workdir, console, resources).go(received)


@contextmanager
def _caught_signals() -> Iterator[list[signal.Signals]]:
    """A list that SIGTERM and SIGINT are put into; a second one ends the process as ever."""
    received: list[signal.Signals] = []

    def receive(number: int, _: Any) -> None:
        if received:
            signal.signal(number, old[signal.Signals(number)])
            signal.raise_signal(number)
        received.append(signal.Signals(number))

    old = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Run:
    """A run on this process: what it computes with, and where it is."""

    def __init__(
        self, config: Config, workdir: Path, console: Console, resources: ExitStack
    ) -> None:
        self.examples = config.task.open(config.data, "train")
        held_out = config.task.open(config.data, "eval")
        self.config = config = complete(config, self.examples)
        self.workdir, self.console = workdir, console
        self.parallel = parallel = Parallel(config)

        self.batches = prefetch(self.host_batches(), parallel.put)
        resources.callback(self.batches.close)
        self.saved = (0, self.batches.get_state())  # newest checkpoint: step, position in the data
        batch = next(self.batches)  # for its shapes
        model, variables = build(config, batch)
        optimizer = make_optimizer(config.optim, config.steps, variables["params"])
        step = make_step(config, model, optimizer)
        schedule = make_schedule(config.optim, config.steps)
        self.step = parallel.compile(make_logged(step, schedule, config.log_every))
        self.state: TrainState = parallel.init(make_init(config, model, optimizer), batch)
        self.metrics: Metrics = parallel.replicate(first_metrics(step, self.state, batch))
        self.evaluate = config.task.evaluator(
            model, config.data, held_out, config.batch_size, parallel.put
        )
        self.draw = config.task.pictures(model, config.data, held_out, parallel.put)

        if config.optim.warmup_steps >= config.steps:
            console.print(f"note: all {config.steps} steps are in the warm-up of the learning rate")
        resources.enter_context(locked(workdir))
        self.checkpoints = Checkpointer(workdir / "checkpoints", config.keep)
        resources.callback(self.checkpoints.close)
        if self.checkpoints.latest is not None:
            check_same(workdir, config)
            self.resume(self.checkpoints.latest)
        elif (initial := initial_variables(config, model, console)) is not None:
            self.state = with_initial(self.state, initial, parallel.replicate)
        write_config(workdir, config, self.examples)
        self.batches.set_state(self.saved[1])
        resources.callback(draw_learning_curve, workdir)
        self.log = MetricsLog(workdir, self.saved[0])
        resources.callback(self.log.close)
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
        return train_batches(
            self.examples,
            self.config.batch_size,
            seed=self.config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def resume(self, step: int) -> None:
        """Goes back to a checkpoint."""
        self.console.print(f"resuming {self.workdir} after step {step}", soft_wrap=True)
        self.state, self.metrics, position = self.checkpoints.restore(
            self.state, self.metrics, step
        )
        self.saved = (step, position)

    def go(self, received: list[signal.Signals]) -> Result:
        """Takes the steps that are left, or as many as there are before a signal."""
        config, step = self.config, self.saved[0]
        figures = self.evaluate(self.state.evaluated()) if step == config.steps else {}
        pending: tuple[int, Metrics] | None = None
        under_way: deque[jax.Array] = deque()
        if received:
            return Result(step, figures, 0, received[0])
        with self.progress:
            while step < config.steps:
                step += 1
                self.state, self.metrics = self.step(self.state, self.metrics, next(self.batches))
                under_way.append(self.metrics.bad_step)
                if len(under_way) > 2:  # no further ahead of the device, so that stopping is quick
                    under_way.popleft().block_until_ready()
                if pending is not None:  # what an earlier step logged, while this one is under way
                    self.report(*pending, {})
                    pending = None
                last = step == config.steps
                logs = last or step % config.log_every == 0
                evaluates = last or step % config.eval_every == 0
                stops = bool(received)  # looked at once: a signal may come at any time
                if evaluates or stops or step % config.checkpoint_every == 0:
                    self.check(self.metrics)
                    figures = self.evaluate(self.state.evaluated()) if evaluates else {}
                    if logs or evaluates:
                        self.report(step, self.metrics if logs else None, figures)
                    self.save(step, figures.get(config.task.best))
                    if evaluates:
                        self.draw_pictures(step)
                elif logs:
                    pending = (step, self.metrics)
                self.progress.update(self.bar, completed=step)
                if stops:
                    break
        # A signal during the last step finds the run done.
        stopped_by = received[0] if received and step < config.steps else None
        return Result(step, figures, self.examples.skipped, stopped_by)

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
            speeds["speed/examples_per_second"] = speed
            self.progress.update(self.bar, speed=f"{speed:,.0f} examples/s")
        entry |= {f"eval/{name}": float(value) for name, value in figures.items()}
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
        with closing(self.host_batches()) as batches:
            batches.set_state({"batch": bad - 1})  # a batch a step
            batch = next(batches)
        step, _ = self.saved
        kept = self.workdir / f"bad_batch_step{bad}.npz"
        np.savez(kept, **batch)
        good = f"{self.workdir / 'checkpoints' / str(step)}" if step else "none yet"
        raise DivergedError(
            f"the loss or a gradient is not finite at step {bad}; its batch: {kept};"
            f" last good checkpoint: {good}"
        )

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
        folder = self.workdir / "pictures" / str(step)
        folder.mkdir(parents=True, exist_ok=True)
        self.draw(self.state.evaluated(), folder)
        self.clock = time.monotonic(), step
