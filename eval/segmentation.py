"""Scores label maps or panoptic segmentations: python -m eval.segmentation.

    python -m eval.segmentation --annotations=masks/ --predictions=found/ --classes=names.txt

    python -m eval.segmentation --workdir=DIR --json=out.json

The input is two folders of label images with the same file names (one channel or a palette; the
value of a pixel is its class), or the folder of a run of `train`: then the run's model segments the
images of its evaluation split at their own size. With ``--panoptic``, the input is two json files
in COCO's panoptic format; beside each is a folder of the same name with its png files. Invalid
input is an error of one line, with exit code 2.
"""

import argparse
import copy
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eval.boundary import BoundaryF1
from eval.command import add_run_arguments, figure, make_parser, run_command
from eval.confusion import ConfusionMatrix
from eval.panoptic import PanopticQuality, Segment
from zoo.data.decode import decode_label_map
from zoo.data.errors import DataError, some
from zoo.data.formats.folders import MASK_SUFFIXES, files_by_name, read_bytes, read_class_names
from zoo.data.formats.panoptic import read_panoptic_pair, read_segment_ids
from zoo.types import InputError

_MOST_CLASSES = 4096  # the confusion matrix then takes 128 MiB


def _parser() -> argparse.ArgumentParser:
    description = "Scores label maps (mIoU, ...) or panoptic segmentations (PQ)."
    parser = make_parser("segmentation", description)
    add = parser.add_argument
    add_run_arguments(parser, batch_size=16, required=False)
    add("--annotations", type=Path, help="folder of masks; panoptic: json")
    add("--predictions", type=Path, help="folder of masks; panoptic: json")
    add("--panoptic", action="store_true", help="the files are COCO panoptic json")
    add("--classes", help="number of classes, or a text file with one name in each line")
    add("--ignore_label", type=int, default=255, help="annotated label of pixels to ignore")
    add("--boundary", action="store_true", help="also compute boundary F1; slow")
    add("--plots", type=Path, help="folder for the pictures; default for a run: its own")
    return parser


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.workdir and (arguments.annotations or arguments.predictions):
        parser.error("--workdir and files exclude each other")
    if arguments.workdir and (arguments.panoptic or arguments.classes):
        parser.error("--workdir: a run has its own classes, and no panoptic segmentation")
    if not arguments.workdir and not (arguments.annotations and arguments.predictions):
        parser.error("--annotations and --predictions are needed, or --workdir")
    if not arguments.workdir and not arguments.panoptic and not arguments.classes:
        parser.error("--classes is needed: their number, or a text file of their names")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(_parser(), _evaluate, argv, _check)


def _evaluate(arguments: argparse.Namespace) -> dict[str, object]:
    if arguments.workdir:
        return _run(arguments)
    return _panoptic(arguments) if arguments.panoptic else _semantic(arguments)


def _classes(given: str) -> Sequence[str]:
    """Names of the classes: the numbers from 0 on, or the lines of a file."""
    if not given.isdecimal():
        return read_class_names(given, _MOST_CLASSES)
    if not 0 < int(given[:9]) <= _MOST_CLASSES or len(given) > 9:
        raise InputError(f"--classes: {given[:9]}, not 1 to {_MOST_CLASSES}")
    return [str(i) for i in range(int(given))]


def _pairs(annotations: Path, predictions: Path) -> list[tuple[str, str]]:
    """Pairs of an annotated and a predicted file of the same name; the suffix may differ."""
    true, found = (files_by_name(folder, MASK_SUFFIXES) for folder in (annotations, predictions))
    for here, there, folder in ((true, found, predictions), (found, true, annotations)):
        if lost := sorted(set(here) - set(there)):
            raise InputError(f"{folder}: lacks {len(lost)} of {len(here)} images, first {lost[0]}")
    return [(true[name], found[name]) for name in true]


def _semantic(arguments: argparse.Namespace) -> dict[str, object]:
    classes = _classes(arguments.classes)
    matrix = ConfusionMatrix(classes, arguments.ignore_label)
    boundary = BoundaryF1(classes, arguments.ignore_label) if arguments.boundary else None

    pairs = _pairs(arguments.annotations, arguments.predictions)
    empty = copy.deepcopy((matrix, boundary))

    def score(pair: tuple[str, str]) -> tuple[ConfusionMatrix, BoundaryF1 | None]:
        labels = [decode_label_map(read_bytes(path), path) for path in pair]
        own = copy.deepcopy(empty)
        try:
            for metric in own:
                if metric:
                    metric.update(*labels)
        except ValueError as error:
            raise DataError(f"{pair[0]}, {pair[1]}: {error}") from None
        return own

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for counted, outlined in pool.map(score, pairs):
            matrix.merge(counted)
            if boundary and outlined:
                boundary.merge(outlined)
    return _report(matrix, boundary, arguments.plots)


def _run(arguments: argparse.Namespace) -> dict[str, object]:
    """Segments the images of a run's evaluation split."""
    from eval import semantic  # imports JAX, which files do not need

    run = semantic.evaluate_run(arguments)
    folder = arguments.plots or arguments.workdir
    figures = _report(run.matrix, run.boundary, folder)
    run.draw(folder / "predictions.png")
    print(f"{run.examples} images, {run.skipped} left out, step {run.step}; pictures: {folder}")
    return {**figures, "examples": run.examples, "skipped": run.skipped, "step": run.step}


def _report(
    matrix: ConfusionMatrix, boundary: BoundaryF1 | None, plots: Path | None
) -> dict[str, object]:
    """Prints and returns all figures; draws the confusion matrix if `plots` is given."""
    figures = matrix.compute()
    rows = figures["per_class"]
    assert isinstance(rows, dict)
    if boundary:
        outlines = boundary.compute()
        per_class = outlines["per_class"]
        assert isinstance(per_class, dict)
        figures["boundary_F1"] = outlines["boundary_F1"]
        for name, score in per_class.items():
            rows[name]["boundary_F1"] = score
    _print(figures, "per_class", "class")
    figures["ignored"] = matrix.ignored / max(matrix.ignored + int(matrix.counts.sum()), 1)
    if matrix.ignored:
        print(f"ignored: {figures['ignored']:.2%} of the pixels, with label {matrix.ignore_label}")
    if absent := [name for name, row in rows.items() if not row["pixels"]]:
        print(f"classes without a true pixel: {some(absent)}")
    if mistake := matrix.mistake():
        print(f"warning: {mistake}", file=sys.stderr)
    if plots:
        from eval import pictures  # imports matplotlib, which only plots need

        plots.mkdir(parents=True, exist_ok=True)
        pictures.draw_confusion_matrix(matrix.counts, matrix.classes, plots / "confusion.png")
    return figures


def _panoptic(arguments: argparse.Namespace) -> dict[str, object]:
    truth, found = read_panoptic_pair(arguments.annotations, arguments.predictions)
    quality = PanopticQuality(
        {category.id: category.name for category in truth.categories},
        [category.id for category in truth.categories if category.isthing],
    )
    predictions = {annotation.image_id: annotation for annotation in found.annotations}
    for image in truth.annotations:
        predicted = predictions[image.image_id]
        true = [Segment(s.id, s.category_id, s.iscrowd != 0, s.area) for s in image.segments_info]
        segments = [Segment(s.id, s.category_id) for s in predicted.segments_info]
        target = read_segment_ids(arguments.annotations.with_suffix(""), image.file_name)
        prediction = read_segment_ids(arguments.predictions.with_suffix(""), predicted.file_name)
        try:
            quality.update(target, true, prediction, segments)
        except ValueError as error:
            raise DataError(f"{predicted.file_name}, image {image.image_id}: {error}") from None
    figures = quality.compute()
    _print(figures, "per_category", "category")
    return figures


def _print(figures: dict[str, object], rows_key: str, label: str) -> None:
    """Prints the overall figures, and a table with the figures of each class."""
    for key, value in figures.items():
        if isinstance(value, float):
            print(f" {key:<15} = {figure(value, 4)}")
    rows = figures[rows_key]
    assert isinstance(rows, dict)
    table = Table()
    table.add_column(label)
    keys = list(next(iter(rows.values())))
    for key in keys:
        table.add_column(key, justify="right")
    for name, row in rows.items():
        values = (row[key] for key in keys)
        table.add_row(name, *(str(v) if isinstance(v, int) else figure(v, 4) for v in values))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
