"""python -m train.doctor RECIPE --workdir=DIR --field.sub=value ...

Checks a recipe and its data before an expensive run: reads and decodes every file, shows how
classes and annotations are read, draws a batch with its targets, scores the ground truth as if it
were predicted, and overfits one batch: loss, and for detection the AP on that batch, which should
approach 1 with ``--overfit_steps=500``. Takes the fields of ``python -m train RECIPE``.
``--overfit_steps=0`` skips the last check. Of more than 5,000 files in a split it reads 5,000;
``--files=all`` reads all of them, ``--files=NUMBER`` so many, ``--files=0`` none.
The exit code is 0 if all is well, 1 if something is wrong, and 2 for bad input.
"""

import dataclasses
import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from rich.console import Console

from eval.compiling import announced
from train.checks import CHECKS, Checks
from train.checks.files import MOST, describe, has_files, read_files
from train.config import Config, ConfigError, override
from train.fields import show_fields
from train.model import (
    build,
    complete,
    initial_variables,
    with_implied_fields,
    with_preprocessing,
)
from train.optim import make_optimizer
from train.parallel import Parallel
from train.recipes import RECIPES
from train.step import make_init, make_step, with_initial
from train.tasks import Batch
from zoo.data import DataError, Dataset, train_batches
from zoo.registry import layers_of, unknown
from zoo.types import InputError

_DRAWN = 16  # images of a batch that are drawn into the picture
_FALL = 0.8  # the last loss of the overfitted batch must be below this share of the first one


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    console = Console(markup=False, highlight=False)
    if not arguments or {"-h", "--help"} & set(arguments):
        console.print((__doc__ or "").strip())
        if arguments and arguments[0] in RECIPES:
            show_fields(console, RECIPES[arguments[0]]())
        return 0
    try:
        problems = _examine(arguments[0], list(arguments[1:]), console)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        console.print(f"PROBLEM: {problem}", soft_wrap=True)
    if not problems:
        console.print("all is well")
    return 1 if problems else 0


def _examine(recipe: str, arguments: list[str], console: Console) -> list[str]:
    if recipe not in RECIPES:
        raise ConfigError(unknown("recipe", recipe, RECIPES))
    own = {"--workdir": f"runs/{recipe}_doctor", "--overfit_steps": "50", "--files": str(MOST)}
    for text in [text for text in arguments if text.partition("=")[0] in own]:
        name, _, own[name] = text.partition("=")
        arguments.remove(text)
    if not own["--overfit_steps"].isdecimal():
        raise ConfigError(f"--overfit_steps={own['--overfit_steps']} is no number of steps")
    if not (own["--files"].isdecimal() or own["--files"] == "all"):
        raise ConfigError(f"--files={own['--files']} is neither all nor a number of files")
    most = None if own["--files"] == "all" else int(own["--files"])
    config = override(RECIPES[recipe](), arguments)
    folder = Path(own["--workdir"]).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return examine(config, folder, console, int(own["--overfit_steps"]), most)


def examine(
    config: Config, folder: Path, console: Console, overfit_steps: int, files: int | None = MOST
) -> list[str]:
    """Checks a recipe; returns one line for each problem that is found.

    Args:
        config: The configuration of the recipe, with all overrides.
        folder: Folder to which pictures are written.
        console: Console on which findings are printed.
        overfit_steps: Number of steps on one batch; 0 skips this check.
        files: The largest number of files of a split to read and decode; None reads all.

    Raises:
        InputError: If the settings do not fit together, or the data cannot be read.
    """
    config = with_preprocessing(config)
    task, data = config.task, config.data
    if hasattr(data, "mean"):
        console.print(f"pixels: (x / 255 - {data.mean}) / {data.std}", soft_wrap=True)
    checks = CHECKS[type(task)]
    try:
        train, held_out = task.open(data, "train"), task.open(data, "eval")
    except DataError as error:
        if (why := checks.explain(config)) is None:
            raise
        return [str(error), why]
    unreadable, train, held_out = _read(train, held_out, files, console, folder)
    if train is None or held_out is None:
        return unreadable
    findings = checks.inspect(data, train, held_out)
    console.print(findings.table)
    console.print("\n".join(findings.notes), soft_wrap=True)
    problems = unreadable + findings.problems

    config = with_implied_fields(complete(config, train))
    parallel = Parallel(config)
    with closing(train_batches(train, config.batch_size, seed=config.seed)) as batches:
        batch = next(batches)
    path = folder / "targets.png"
    checks.draw(data, train, {name: values[:_DRAWN] for name, values in batch.items()}, path)
    console.print(f"a batch with its targets: {path}", soft_wrap=True)

    if checks.score_truth is not None:
        figures = checks.score_truth(data, held_out, config.batch_size, parallel.put)
        best = task.best if task.best in figures else next(iter(figures))
        for name in (name for name in figures if name == best or name.endswith(f"_{best}")):
            console.print(f"ground truth as predictions: {name} {figures[name]:.4f}")
            if figures[name] < 0.999:
                problems.append(
                    f"the ground truth as predictions has {name} {figures[name]:.4f} instead of 1:"
                    " targets get lost or changed on the way to the model, or are wrong themselves"
                )
    if checks.missing_outputs is not None:
        problems += checks.missing_outputs(config, batch)
    if overfit_steps:
        problems += _learn_batch(config, checks, parallel, batch, overfit_steps, console)
    return problems


def _read(
    train: Dataset, held_out: Dataset, most: int | None, console: Console, folder: Path
) -> tuple[list[str], Dataset | None, Dataset | None]:
    """Reads the files of both splits; for the arguments see `examine`.

    Returns:
        A line for each problem, and the data sets for the other checks, which leave out what cannot
        be read; None for a split of which nothing can be read.
    """
    problems: list[str] = []
    readable: list[Dataset | None] = []
    for split, dataset in (("train", train), ("eval", held_out)):
        if most == 0 or not has_files(dataset):
            readable.append(dataset)
            continue
        title = f"reading the files of {split}"
        reading = read_files(dataset, held_out.transform, most, console, title)
        part = "" if reading.read == reading.total else "; --files=all reads all"
        console.print(f"{split}: {reading.read} of {reading.total} files were read{part}")
        lines = describe(reading, split, folder)
        if lines and dataset.on_error == "skip":
            console.print("\n".join(f"left out: {line}" for line in lines), soft_wrap=True)
        else:
            problems += lines
        left = dataclasses.replace(dataset, on_error="skip") if lines else dataset
        readable.append(left if len(reading.errors) < reading.total else None)
    return problems, readable[0], readable[1]


def _learn_batch(
    config: Config, checks: Checks, parallel: Parallel, batch: Batch, count: int, console: Console
) -> list[str]:
    """Overfits one batch in `count` steps, and prints what it learnt; gives the problems."""
    problems: list[str] = []
    steps, model, variables = overfit(config, parallel, batch, count, console)
    first, last = steps[0], steps[-1]
    rest = (f"{name} {x:.4g} -> {last[name]:.4g}" for name, x in first.items() if name != "loss")
    parts = ", ".join(rest)
    console.print(
        f"one batch, {len(steps)} steps: loss {first['loss']:.4g} -> {last['loss']:.4g}"
        + (f" ({parts})" if parts else ""),
        soft_wrap=True,
    )
    if checks.score_batch is not None and np.isfinite(last["loss"]):
        score = checks.score_batch(config, model, variables, batch)
        figures = ", ".join(f"{name} {x:.4f}" for name, x in score.items())
        console.print(f"that batch, evaluated: {figures}")
    if not last["loss"] < _FALL * first["loss"]:
        problems.append(
            f"the loss of one batch only goes from {first['loss']:.4g} to {last['loss']:.4g} in"
            f" {count} steps: look at the learning rate, or give more --overfit_steps"
        )
    if checks.first_metrics is not None:
        notes, found = checks.first_metrics(first)
        console.print("\n".join(notes), soft_wrap=True, end="\n" if notes else "")
        problems += found
    return problems


def overfit(
    config: Config, parallel: Parallel, batch: Batch, steps: int, console: Console
) -> tuple[list[dict[str, float]], nn.Module, dict[str, Any]]:
    """Makes steps on the same batch, at a rate that falls from the recipe's to 0, without warm-up.

    Returns:
        The loss of each step, its parts and other metrics; it ends when the loss is not finite. The
        model, and its variables after the last step.
    """
    optim = dataclasses.replace(config.optim, schedule="linear", warmup_steps=0, final_fraction=0.0)
    config = dataclasses.replace(config, optim=optim, steps=steps, ema=None)
    model, variables = build(config, batch)
    optimizer = make_optimizer(optim, steps, variables["params"], layers_of(model))
    initial = initial_variables(config, model, console)  # before anything compiles
    on_devices = parallel.put(batch)
    start = announced(parallel.init, f"the first state of {config.model.name}")
    state = start(make_init(config, model, optimizer), on_devices)
    if initial is not None:
        state = with_initial(state, initial, parallel.replicate)
    step = jax.jit(make_step(config, model, optimizer), donate_argnums=0)
    step = announced(step, f"a step of {config.model.name}")
    found: list[dict[str, float]] = []
    for _ in range(steps):
        state, means = step(state, on_devices)
        found.append({name: float(mean.value()) for name, mean in means.items()})
        if not np.isfinite(found[-1]["loss"]):
            break
    return found, model, jax.device_get(state.evaluated())


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    sys.exit(main(sys.argv[1:]))
