"""Scores label maps or panoptic segmentations: python -m eval.segmentation.

    python -m eval.segmentation --annotations=masks/ --predictions=found/ --classes=names.txt

    python -m eval.segmentation --workdir=DIR --json=out.json

Folders of label images (one channel or a palette; a pixel's value is its class, the same file names
in both), or the folder of a run of `train`, whose model segments the images of its evaluation split
at their own size. ``--panoptic`` takes COCO's panoptic json files instead, each beside its folder
of png of the same name. What cannot be right in the files is an error of one line, exit code 2.
"""

import argparse
import copy
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt32
from PIL import Image
from rich.console import Console
from rich.table import Table

from eval import panopticjson
from eval.arguments import add_run_arguments
from eval.boundary import BoundaryF1
from eval.cocojson import FileError, check_output, repeated
from eval.confusion import ConfusionMatrix
from eval.panoptic import PanopticQuality, Segment

_MOST_CLASSES = 4096  # whose matrix of pairs is 128 MiB
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.segmentation",
        description="Scores label maps (mIoU, ...) or panoptic segmentations (PQ).",
    )
    add = parser.add_argument
    add_run_arguments(parser, batch_size=16, required=False)
    add("--annotations", type=Path, help="folder of masks; panoptic: json")
    add("--predictions", type=Path, help="folder of masks; panoptic: json")
    add("--panoptic", action="store_true", help="COCO panoptic json, png beside them")
    add("--classes", help="number of classes, or a text file with a name a line")
    add("--ignore_label", type=int, default=255, help="true label of pixels not to count")
    add("--boundary", action="store_true", help="boundary F1 too; slow")
    add("--plots", type=Path, help="folder for the pictures; of a run, its own if absent")
    arguments = parser.parse_args(argv)
    if arguments.workdir and (arguments.annotations or arguments.predictions):
        parser.error("--workdir and files exclude each other")
    if arguments.workdir and (arguments.panoptic or arguments.classes):
        parser.error("--workdir: a run has its own classes, and no panoptic segmentation")
    if not arguments.workdir and not (arguments.annotations and arguments.predictions):
        parser.error("--annotations and --predictions are needed, or --workdir")
    if not arguments.workdir and not arguments.panoptic and not arguments.classes:
        parser.error("--classes is needed: their number, or a text file of their names")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = _arguments(argv)
    try:
        check_output(arguments.json)
        if arguments.workdir:
            figures = _run(arguments)
        else:
            figures = _panoptic(arguments) if arguments.panoptic else _semantic(arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    except (FileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _classes(given: str) -> list[str]:
    """Names of the classes: numbers, or the lines of a file."""
    if given.isdecimal():
        if not 0 < int(given[:9]) <= _MOST_CLASSES or len(given) > 9:
            raise FileError(f"--classes: {given[:9]}, not 1 to {_MOST_CLASSES}")
        return [str(i) for i in range(int(given))]
    try:
        names = [line.strip() for line in Path(given).read_text("utf-8").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"--classes: {given}: {error}") from None
    if not 0 < len(names) <= _MOST_CLASSES:
        raise FileError(f"--classes: {given}: {len(names)} names, not 1 to {_MOST_CLASSES}")
    if "" in names:
        raise FileError(f"--classes: {given}: line {names.index('') + 1} is blank")
    for i in repeated(names)[:1]:
        raise FileError(f"--classes: {given}: line {i + 1}: {names[i]!r} given twice")
    return names


def read_labels(path: Path) -> Integer[np.ndarray, "h w"]:
    """A label image; of a palette image the indices.

    Raises:
        FileError: If the file is not an image of one channel of whole numbers.
    """
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except _UNREADABLE as error:
        raise FileError(f"{path}: {error}") from None
    if labels.ndim != 2:
        raise FileError(f"{path}: a label image has one channel, this one {image.mode}")
    if labels.dtype.kind not in "biu":
        raise FileError(f"{path}: labels are whole numbers, these are {labels.dtype}")
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def _pairs(annotations: Path, predictions: Path) -> list[tuple[Path, Path]]:
    """Files of the same name; the suffix may differ."""
    folders = []
    for folder in (annotations, predictions):
        if not folder.is_dir():
            raise FileError(f"{folder}: not a folder")
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in _SUFFIXES:
                other = files.setdefault(path.relative_to(folder).with_suffix(""), path)
                if other != path:
                    raise FileError(f"{path}: {other.name} beside it is of the same name")
        folders.append(files)
    if not folders[0]:
        raise FileError(f"{annotations}: no label images")
    for here, there, folder in ((*folders, predictions), (*folders[::-1], annotations)):
        if lost := sorted(set(here) - set(there)):
            raise FileError(f"{folder}: lacks {len(lost)} of {len(here)} images, first {lost[0]}")
    return [(folders[0][name], folders[1][name]) for name in sorted(folders[0])]


def _semantic(arguments: argparse.Namespace) -> dict[str, object]:
    classes = _classes(arguments.classes)
    matrix = ConfusionMatrix(classes, arguments.ignore_label)
    boundary = BoundaryF1(classes, arguments.ignore_label) if arguments.boundary else None

    pairs = _pairs(arguments.annotations, arguments.predictions)
    empty = copy.deepcopy((matrix, boundary))

    def score(pair: tuple[Path, Path]) -> tuple[ConfusionMatrix, BoundaryF1 | None]:
        labels = [read_labels(path) for path in pair]
        own = copy.deepcopy(empty)
        try:
            for metric in own:
                if metric:
                    metric.update(*labels)
        except ValueError as error:
            raise FileError(f"{pair[0]}, {pair[1]}: {error}") from None
        return own

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for counted, outlined in pool.map(score, pairs):
            matrix.merge(counted)
            if boundary and outlined:
                boundary.merge(outlined)
    return _report(matrix, boundary, arguments.plots)


def _run(arguments: argparse.Namespace) -> dict[str, object]:
    """Segments the images of a run's evaluation split."""
    from eval import semantic  # JAX and the zoo only where there is a model
    from zoo.types import InputError

    try:
        run = semantic.evaluate_run(arguments)
    except InputError as error:
        raise FileError(str(error)) from error
    folder = arguments.plots or arguments.workdir
    figures = _report(run.matrix, run.boundary, folder)
    run.draw(folder / "predictions.png")
    print(f"{run.examples} images, {run.skipped} left out, step {run.step}; pictures: {folder}")
    return {**figures, "examples": run.examples, "skipped": run.skipped, "step": run.step}


def _report(
    matrix: ConfusionMatrix, boundary: BoundaryF1 | None, plots: Path | None
) -> dict[str, object]:
    """All figures, printed; and the confusion matrix drawn."""
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
    if plots:
        from eval import pictures  # matplotlib only where there is something to draw

        plots.mkdir(parents=True, exist_ok=True)
        pictures.draw_confusion_matrix(matrix.counts, matrix.classes, plots / "confusion.png")
    return figures


def _panoptic(arguments: argparse.Namespace) -> dict[str, object]:
    truth, found = panopticjson.read(arguments.annotations, arguments.predictions)
    quality = PanopticQuality(
        {category.id: category.name for category in truth.categories},
        [category.id for category in truth.categories if category.isthing],
    )
    predictions = {annotation.image_id: annotation for annotation in found.annotations}
    for image in truth.annotations:
        predicted = predictions[image.image_id]
        true = [Segment(s.id, s.category_id, s.iscrowd != 0, s.area) for s in image.segments_info]
        segments = [Segment(s.id, s.category_id) for s in predicted.segments_info]
        target = read_ids(arguments.annotations.with_suffix("") / image.file_name)
        prediction = read_ids(arguments.predictions.with_suffix("") / predicted.file_name)
        try:
            quality.update(target, true, prediction, segments)
        except ValueError as error:
            raise FileError(f"{predicted.file_name}, image {image.image_id}: {error}") from None
    figures = quality.compute()
    _print(figures, "per_category", "category")
    return figures


def read_ids(path: Path) -> UInt32[np.ndarray, "h w"]:
    """Segment ids of a panoptic png: red + 256 green + 65,536 blue.

    Raises:
        FileError: If the file is not an image.
    """
    try:
        with Image.open(path) as image:
            red, green, blue = np.asarray(image.convert("RGB")).astype(np.uint32).transpose(2, 0, 1)
    except _UNREADABLE as error:
        raise FileError(f"{path}: {error}") from None
    return red + 256 * green + 65536 * blue


def _print(figures: dict[str, object], rows_key: str, label: str) -> None:
    """The overall figures, and a table of those of each class."""
    for key, value in figures.items():
        if isinstance(value, float):
            print(f" {key:<15} = {value:.4f}")
    rows = figures[rows_key]
    assert isinstance(rows, dict)
    table = Table()
    table.add_column(label)
    keys = list(next(iter(rows.values())))
    for key in keys:
        table.add_column(key, justify="right")
    for name, row in rows.items():
        values = (row[key] for key in keys)
        table.add_row(name, *(str(v) if isinstance(v, int) else f"{v:.4f}" for v in values))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
