"""Measures how long detectors take to find the objects in an image.

    python -m eval.detection_time RUN RUN ... --images=N --batch_size=B
    python -m eval.detection_time RUN RUN ... --table=FILE.md

Every run detects on the same images, one batch at a time; the runs take turns, so that other work
on the machine slows all of them. The time of a run is the median over the batches, divided by the
images of a batch, without compiling, reading and decoding. It is given in seconds that pass, and in
seconds of the processors for this process, which other work on them changes less. What proposes
regions to a detector, selective search, is timed apart, in seconds of one processor.

With ``--table``, the runs are also scored on their whole split, and compared in a Markdown table.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from eval.command import add_run_arguments, make_parser, path, run_command
from eval.detectors import collect, image_of, predictor
from eval.progress import track
from eval.runs import open_run
from zoo.classical.selective_search import propose
from zoo.data import DetectionData, eval_batches, open_detection
from zoo.types import InputError
from zoo.writing import write_whole

# The columns of the Markdown table, and how a row writes them.
TABLE = {
    "run": "`{run}`",
    "parameters": "{parameters:,}",
    "AP": "{AP:.3f}",
    "AP50": "{AP50:.3f}",
    "ms an image": "{milliseconds:.2f}",
    "ms of CPU": "{cpu_milliseconds:.2f}",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for bad input."""
    description = "Measures how long detectors take to find the objects in an image."
    parser = make_parser("detection_time", description)
    add_run_arguments(parser, batch_size=8, several=True)
    parser.add_argument("--images", type=int, default=64, help="images to time, at most")
    parser.add_argument("--table", type=path, help="Markdown file to compare the runs in")
    return run_command(parser, _measure, argv)


class _Detector(NamedTuple):
    """A run's detector, and what it is given.

    Attributes:
        detect: A compiled function of a batch.
        batches: The batches on the devices, without padding.
        search: Seconds of a processor for an image's selective search; 0 without proposals.
        score: Computes COCO's figures of the whole split.
        parameters: How many numbers its parameters are.
    """

    detect: Callable[[dict[str, Any]], Any]
    batches: list[dict[str, Any]]
    search: float
    score: Callable[[], Mapping[str, Any]]
    parameters: int


def _measure(arguments: argparse.Namespace) -> Mapping[str, Any]:
    if arguments.images < arguments.batch_size:
        raise InputError(
            f"--images is {arguments.images}, but must be at least --batch_size,"
            f" {arguments.batch_size}"
        )
    detectors = {str(run): _open(run, arguments) for run in arguments.runs}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in detectors}
    for turn in range(min(len(one.batches) for one in detectors.values())):
        for name, one in detectors.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(one.detect(one.batches[turn]))
            times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    figures = {}
    for name, one in detectors.items():
        passed, used = np.median(times[name], axis=0) / arguments.batch_size
        figures[name] = {
            "seconds": float(passed),
            "cpu_seconds": float(used),
            "search_cpu_seconds": one.search,
        }
    _print(figures)
    if arguments.table:
        for name, one in detectors.items():
            figures[name] |= {"parameters": one.parameters, **_scores(one)}
        write_whole(arguments.table, _markdown(figures))
        print(f"table: {arguments.table}")
    return {"runs": figures, "device": jax.devices()[0].device_kind}


def _open(run_path: Any, arguments: argparse.Namespace) -> _Detector:
    """A run's detector, compiled, and its images."""
    run = open_run(argparse.Namespace(**{**vars(arguments), "workdir": run_path}), DetectionData)
    examples = open_detection(run.data, "eval", class_names=run.class_names, track=track)
    detect = partial(predictor(run.model, run.data), run.variables)
    batches = []
    for host in eval_batches(examples, run.batch_size):
        if (len(batches) + 1) * run.batch_size > arguments.images:
            break
        if host["valid"].all():
            batches.append(run.put(host))
    if not batches:
        raise InputError(f"{run_path}: its data have no batch of {run.batch_size} images")
    jax.block_until_ready(detect(batches[0]))
    search = 0.0
    if run.data.proposals is not None:
        images = [image_of(examples, run.data, i) for i in range(min(len(examples), 16))]
        start = time.process_time()
        for image in images:
            propose(image, run.data.search)
        search = (time.process_time() - start) / len(images)
    return _Detector(
        detect,
        batches,
        search,
        lambda: collect(detect, examples, run.batch_size, run.put, masks=False).compute(),
        sum(leaf.size for leaf in jax.tree.leaves(run.variables["params"])),
    )


def _scores(detector: _Detector) -> dict[str, float]:
    found = detector.score()
    return {name: float(found[name]) for name in ("AP", "AP50")}


def _markdown(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The runs by name, the last folder of their path, as a Markdown table."""
    rows = [" | ".join(columns) for columns in (TABLE, ["---"] * len(TABLE))]
    for name, found in figures.items():
        row = " | ".join(TABLE.values()).format(
            run=Path(name).name,
            milliseconds=1000 * found["seconds"],
            cpu_milliseconds=1000 * found["cpu_seconds"],
            **found,
        )
        rows.append(row)
    return "".join(f"| {row} |\n" for row in rows)


def _print(figures: Mapping[str, Mapping[str, float]]) -> None:
    table = Table(title="milliseconds per image")
    table.add_column("run")
    for column in ("detector", "its CPU time", "CPU time of selective search"):
        table.add_column(column, justify="right")
    for name, found in figures.items():
        table.add_row(name, *(f"{1000 * seconds:.2f}" for seconds in found.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
