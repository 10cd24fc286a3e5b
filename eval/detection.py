"""Scores detections, masks or keypoints against ground truth: python -m eval.detection.

    python -m eval.detection --annotations=instances.json --predictions=results.json --json=out.json

    python -m eval.detection --workdir=DIR --json=out.json

Files in COCO's formats (``--style=lvis`` for LVIS's; ``--style=voc`` for a folder of xml and a
folder of the devkit's result files), or the folder of a run of `train`, whose model finds the
objects of its evaluation split. Prints the official tool's figures and a table by category.
What cannot be right in the files is an error of one line, exit code 2.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from eval import cocojson, vocfiles
from eval.arguments import add_run_arguments, path
from eval.coco import THRESHOLDS, CocoEvaluator, Collected
from eval.cocojson import FileError, GroundTruth
from eval.diagnose import Curve, mistakes, raw_curves
from eval.lvis import FREQUENCIES, LvisEvaluator
from eval.overlap import COCO_SIGMAS
from eval.records import Detections
from eval.voc import VocEvaluator

if TYPE_CHECKING:
    from eval.detectors import RunDetections

Figures = dict[str, object]
Read = Callable[[int], np.ndarray | None]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.detection",
        description="Scores detections against ground truth, with the official tools' figures.",
    )
    add = parser.add_argument
    add_run_arguments(parser, batch_size=32, required=False)
    add("--results", type=path, help="file for the detections of a run, in COCO's results format")
    add("--annotations", type=Path, help="COCO or LVIS json; VOC: folder of xml")
    add("--predictions", type=Path, help="COCO results json; VOC: folder of txt")
    add("--style", choices=("coco", "lvis", "voc"), default="coco", help="whose rules")
    add("--iou_type", choices=("bbox", "segm", "keypoints"), default="bbox", help="what overlaps")
    add("--sigmas", help="keypoints: width of each joint, a comma between; default COCO's 17")
    add("--iou", type=float, default=0.5, help="overlap for precision, recall and plots, and VOC")
    add("--score", type=float, default=0.5, help="least score for precision, recall, confusions")
    add("--eleven_point", action="store_true", help="VOC: AP of 2007")
    add("--plots", type=Path, help="folder for curves, confusion matrix and worst mistakes")
    add("--images", type=Path, help="folder of the images, to draw the worst mistakes on")
    arguments = parser.parse_args(argv)
    if arguments.workdir and (arguments.annotations or arguments.predictions):
        parser.error("--workdir and files exclude each other")
    if not arguments.workdir and not (arguments.annotations and arguments.predictions):
        parser.error("--annotations and --predictions are needed, or --workdir")
    if arguments.workdir and (arguments.style != "coco" or arguments.iou_type == "keypoints"):
        parser.error("--workdir needs --style=coco and --iou_type=bbox or segm")
    if arguments.style != "coco" and arguments.plots:
        parser.error("--plots needs --style=coco")
    if arguments.style == "voc" and arguments.iou_type != "bbox":
        parser.error("--style=voc needs --iou_type=bbox")
    if arguments.style == "lvis" and arguments.iou_type == "keypoints":
        parser.error("--style=lvis has no keypoints")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = _arguments(argv)
    try:
        cocojson.check_output(arguments.json)
        if not 0 < arguments.iou <= 1:
            raise FileError(f"--iou: {arguments.iou}, not above 0 and at most 1")
        figures = _EVALUATE[arguments.style](arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    except (FileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _update(
    evaluator: Collected,
    truth: GroundTruth,
    found: tuple[Detections, list[str]],
    *more: np.ndarray,
) -> None:
    """Gives the evaluator everything at once; prints the warnings."""
    detections, warnings = found
    for warning in [*truth.warnings, *warnings]:
        print(f"warning: {warning}", file=sys.stderr)
    evaluator.update(np.arange(len(truth.images)), truth.objects, detections, *more)


def _sigmas(arguments: argparse.Namespace, truth: GroundTruth) -> np.ndarray:
    sigmas = COCO_SIGMAS
    if arguments.sigmas:
        try:
            sigmas = np.array([float(part) for part in arguments.sigmas.split(",")])
        except ValueError:
            raise FileError(f"--sigmas: not numbers: {arguments.sigmas}") from None
    keypoints = truth.objects.keypoints
    if keypoints is not None and len(keypoints) and keypoints.shape[1] != len(sigmas):
        raise FileError(
            f"{arguments.annotations}: {keypoints.shape[1]} joints but {len(sigmas)} --sigmas"
        )
    return sigmas


def _coco(arguments: argparse.Namespace) -> Figures:
    iou_type = arguments.iou_type
    if not np.isclose(THRESHOLDS, arguments.iou).any():
        known = ", ".join(f"{threshold:.2f}" for threshold in THRESHOLDS)
        raise FileError(f"--iou: {arguments.iou}, not one of {known}")
    if arguments.workdir:
        run = _evaluate_run(arguments)
        evaluator, read, more = run.evaluator, run.image, {"step": run.step}
        if arguments.results:
            run.write_results(arguments.results)
    else:
        truth = cocojson.read_ground_truth(arguments.annotations, iou_type)
        sigmas = _sigmas(arguments, truth)
        evaluator = CocoEvaluator(truth.category_names, iou_type, sigmas)
        _update(evaluator, truth, cocojson.read_results(arguments.predictions, truth, iou_type))
        read, more = _image_reader(arguments, truth), {}
    matches = evaluator.match()
    figures = evaluator.compute(matches)
    print("\n".join(evaluator.summary(figures)))
    curves = raw_curves(evaluator, arguments.iou, matches)
    per_category = figures["per_category"]
    assert isinstance(per_category, dict)
    for name, curve in curves.items():
        per_category[name] |= curve.at(arguments.score)
    figures |= {"score": arguments.score, "iou": arguments.iou, **more}
    keys = ["AP", "AP50", "AP75", "AR", "AR100", "precision", "recall"]
    _table(
        f"precision, recall: score >= {arguments.score}, IoU {arguments.iou}", per_category, keys
    )
    if arguments.plots:
        _plot(arguments, evaluator, curves, read)
    return figures


def _lvis(arguments: argparse.Namespace) -> Figures:
    iou_type = arguments.iou_type
    truth = cocojson.read_ground_truth(arguments.annotations, iou_type, federated=True)
    frequencies = {category.id: category.frequency for category in truth.categories}
    for category in truth.categories:
        if category.frequency not in FREQUENCIES:
            raise FileError(f"{arguments.annotations}: category {category.id} has no frequency")
    evaluator = LvisEvaluator(truth.category_names, frequencies, iou_type)
    found = cocojson.read_results(arguments.predictions, truth, iou_type)
    absent, incomplete = (
        np.array(
            [(i, k) for i, image in enumerate(truth.images) for k in getattr(image, field)], int
        ).reshape(-1, 2)
        for field in ("neg_category_ids", "not_exhaustive_category_ids")
    )
    _update(evaluator, truth, found, absent, incomplete)
    figures = evaluator.compute()
    print(
        "\n".join(f" {key:<7}= {value:.3f}" for key, value in figures.items() if _is_number(value))
    )
    _table("", figures["per_category"], ["AP", "AP50"])
    return figures


def _voc(arguments: argparse.Namespace) -> Figures:
    truth = vocfiles.read_ground_truth(arguments.annotations)
    evaluator = VocEvaluator(truth.category_names, arguments.iou, arguments.eleven_point)
    _update(evaluator, truth, vocfiles.read_results(arguments.predictions, truth))
    figures = evaluator.compute()
    print(f" mAP = {figures['mAP']:.4f}")
    _table("", figures["per_category"], ["AP", "precision", "recall"])
    return figures


_EVALUATE = {"coco": _coco, "lvis": _lvis, "voc": _voc}


def _is_number(value: object) -> bool:
    return isinstance(value, float)


def _table(title: str, per_category: object, keys: Sequence[str]) -> None:
    """Prints figures by category; those without objects are left out."""
    assert isinstance(per_category, dict)
    table = Table(title=title or None)
    table.add_column("category")
    keys = [key for key in keys if any(key in row for row in per_category.values())]
    for key in keys:
        table.add_column(key, justify="right")
    for name, row in per_category.items():
        if row["AP"] >= 0:
            table.add_row(name, *(f"{row[key]:.3f}" for key in keys))
    Console().print(table)


def _evaluate_run(arguments: argparse.Namespace) -> "RunDetections":
    # Scoring files shall not have to wait for JAX.
    from eval.detectors import evaluate_run
    from zoo.types import InputError

    try:
        return evaluate_run(arguments)
    except InputError as error:
        raise FileError(str(error)) from error


def _image_reader(arguments: argparse.Namespace, truth: GroundTruth) -> Read | None:
    """A function of an image's position that reads it from ``--images``."""
    if not arguments.images:
        return None

    def read(image: int) -> np.ndarray | None:
        from eval.plots import read_image

        return read_image(arguments.images / (truth.images[image].file_name or ""))

    return read


def _plot(
    arguments: argparse.Namespace,
    evaluator: CocoEvaluator,
    curves: Mapping[str, Curve],
    read: Read | None,
) -> None:
    from eval import pictures, plots  # matplotlib only where there is something to draw

    folder: Path = arguments.plots
    folder.mkdir(parents=True, exist_ok=True)
    names = evaluator.categories
    plots.precision_recall(folder / "precision_recall.png", curves, f"IoU {arguments.iou}")
    found = mistakes(evaluator, arguments.score, arguments.iou)
    labels = [*names.values(), "nothing"]
    pictures.draw_confusion_matrix(found.matrix, labels, folder / "confusion.png")
    if read is not None:
        unreadable = plots.worst(folder / "worst.png", found, read, names)
        if unreadable:
            print(f"warning: {unreadable} images in {arguments.images} unreadable", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
