"""Measures how long detectors take to find the objects in an image.

    python -m eval.detection_time RUN RUN ... --images=N --batch_size=B

Every run detects on the same images, one batch at a time; the runs take turns, so that other work
on the machine slows all of them. The time of a run is the median over the batches, divided by the
images of a batch, without compiling, reading and decoding. What proposes regions to a detector,
selective search, is timed apart: on one processor, image by image.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from eval.command import add_run_arguments, make_parser, run_command
from eval.detectors import image_of, predictor
from eval.progress import track
from eval.runs import open_run
from zoo.classical.selective_search import propose
from zoo.data import DetectionData, eval_batches, open_detection
from zoo.types import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for bad input."""
    description = "Measures how long detectors take to find the objects in an image."
    parser = make_parser("detection_time", description)
    add_run_arguments(parser, batch_size=8, several=True)
    parser.add_argument("--images", type=int, default=64, help="images, at most")
    return run_command(parser, _measure, argv)


class _Detector(NamedTuple):
    """A run's detector, and what it is given.

    Attributes:
        detect: A compiled function of a batch.
        batches: The batches on the devices, without padding.
        search: Seconds of selective search for an image; 0 for a detector without proposals.
    """

    detect: Callable[[dict[str, Any]], Any]
    batches: list[dict[str, Any]]
    search: float


def _measure(arguments: argparse.Namespace) -> Mapping[str, Any]:
    if arguments.images < arguments.batch_size:
        raise InputError(
            f"--images is {arguments.images}, but must be at least --batch_size,"
            f" {arguments.batch_size}"
        )
    detectors = {str(run): _open(run, arguments) for run in arguments.runs}
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for turn in range(min(len(one.batches) for one in detectors.values())):
        for name, one in detectors.items():
            start = time.perf_counter()
            jax.block_until_ready(one.detect(one.batches[turn]))
            times[name].append((time.perf_counter() - start) / arguments.batch_size)
    figures = {
        name: {
            "seconds": float(np.median(times[name])),
            "search_seconds": one.search,
            "seconds_with_search": float(np.median(times[name])) + one.search,
        }
        for name, one in detectors.items()
    }
    _print(figures)
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
        start = time.perf_counter()
        for image in images:
            propose(image, run.data.search)
        search = (time.perf_counter() - start) / len(images)
    return _Detector(detect, batches, search)


def _print(figures: Mapping[str, Mapping[str, float]]) -> None:
    table = Table(title="milliseconds per image")
    table.add_column("run")
    for column in ("detector", "with selective search"):
        table.add_column(column, justify="right")
    for name, found in figures.items():
        both = (found["seconds"], found["seconds_with_search"])
        table.add_row(name, *(f"{1000 * seconds:.2f}" for seconds in both))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
