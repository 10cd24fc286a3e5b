"""Scores detections, masks or keypoints against ground truth: python -m eval.detection.

    python -m eval.detection --annotations=instances.json --predictions=results.json --json=out.json

    python -m eval.detection --workdir=DIR --json=out.json

The input is two files in COCO's formats (with ``--style=lvis`` in LVIS's; with ``--style=voc`` a
folder of xml files and a folder of the devkit's result files), or the folder of a run of `train`:
then the run's model finds the objects in its evaluation split. Prints the figures of the official
tool and a table by category. Invalid input is an error of one line, with exit code 2.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from eval import files
from eval.box_formats import better_format, box_problem, describe_problem
from eval.coco import THRESHOLDS, CocoEvaluator
from eval.command import figure, run_command
from eval.detection_options import check_options, given_sigmas, make_options
from eval.diagnose import Curve, mistakes, raw_curves
from eval.files import GroundTruth
from eval.lvis import FREQUENCIES, LvisEvaluator
from eval.overlap import COCO_SIGMAS, OTHER_SIGMA, default_sigmas
from eval.records import DetectionRows, ObjectRows
from eval.voc import VocEvaluator
from zoo.data.annotations import xywh_to_xyxy
from zoo.data.formats.folders import find_file
from zoo.types import InputError

if TYPE_CHECKING:
    from eval.detection_run import RunDetections

Figures = dict[str, object]
Evaluate = Callable[[ObjectRows, DetectionRows], Figures]
Read = Callable[[int], np.ndarray | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(make_options(), _evaluate, argv, check_options)


def _evaluate(arguments: argparse.Namespace) -> Figures:
    if not 0 < arguments.iou <= 1:
        raise InputError(f"--iou: {arguments.iou}, but must be above 0 and at most 1")
    if arguments.max_dets is not None and arguments.max_dets < 1:
        raise InputError(f"--max_dets: {arguments.max_dets}, but must be 1 or more")
    return _EVALUATE[arguments.style](arguments)


def _warned(truth: GroundTruth, found: tuple[DetectionRows, list[str]]) -> DetectionRows:
    """The detections; prints the warnings."""
    detections, warnings = found
    for warning in [*truth.warnings, *warnings]:
        print(f"warning: {warning}", file=sys.stderr)
    return detections


def _warn_of_format(
    arguments: argparse.Namespace,
    truth: GroundTruth,
    found: DetectionRows,
    evaluate: Evaluate,
    key: str,
    figures: Figures,
) -> None:
    """Prints a warning if the annotated or the predicted boxes seem to be in another format.

    Args:
        arguments: The options.
        truth: The ground truth.
        found: The predictions as they were read.
        evaluate: A function of ground truth and predictions that gives the figures.
        key: Name of the figure that formats are judged by.
        figures: The figures of the predictions as they were read.
    """
    voc = arguments.style == "voc"
    heights_widths = (
        np.array([image.size for image in truth.images])
        if truth.file is None
        else truth.file.table.sizes
    )
    sizes = heights_widths[:, ::-1]
    objects, around = truth.objects, sizes[truth.objects.images]
    known = (around > 0).all(axis=1)
    boxes, around = objects.boxes_xywh[known], around[known]
    if not voc and (problem := box_problem(boxes, around)) in ("shares", "corners"):
        what = describe_problem(problem, boxes, around)
        print(f"warning: {arguments.annotations}: {what}", file=sys.stderr)

    def score(objects: ObjectRows, detections: DetectionRows) -> float:
        return cast(float, evaluate(objects, detections)[key])

    given, now = xywh_to_xyxy(found.boxes_xywh) if voc else None, cast(float, figures[key])
    better = better_format(objects, found, sizes, score, now, given)
    if better is not None:
        wanted = "left, top, right, bottom" if voc else "[x, y, width, height]"
        print(
            f"warning: {arguments.predictions}: {key} would be {better.figure:.3f} instead of"
            f" {now:.3f} if the boxes were read as {better.format}; write {wanted} in pixels",
            file=sys.stderr,
        )


def _sigmas(arguments: argparse.Namespace, truth: GroundTruth) -> np.ndarray:
    """The sigmas of the joints in a file."""
    sigmas, keypoints = given_sigmas(arguments), truth.objects.keypoints
    if keypoints is None or not len(keypoints):
        return COCO_SIGMAS if sigmas is None else sigmas
    joints = keypoints.shape[1]
    if sigmas is None:
        _warn_of_sigmas(joints)
        return default_sigmas(joints)
    if joints != len(sigmas):
        raise InputError(f"{arguments.annotations}: {joints} joints but {len(sigmas)} --sigmas")
    return sigmas


def _warn_of_sigmas(joints: int) -> None:
    if joints != len(COCO_SIGMAS):
        print(
            f"warning: COCO has no sigmas for {joints} joints; each is {OTHER_SIGMA:.3f}, the mean"
            " of COCO's; --sigmas gives others",
            file=sys.stderr,
        )


def _run(arguments: argparse.Namespace) -> "RunDetections":
    """The detections of ``--workdir``; writes ``--results``."""
    from eval.detection_run import evaluate_run  # imports JAX, which files do not need

    sigmas = given_sigmas(arguments)
    run = evaluate_run(arguments, sigmas)
    if run.sigmas is not None and sigmas is None and not run.data.sigmas:
        _warn_of_sigmas(len(run.sigmas))
    if arguments.results:
        run.write_results(arguments.results)
    return run


def _coco(arguments: argparse.Namespace) -> Figures:
    iou_type = arguments.iou_type
    if not np.isclose(THRESHOLDS, arguments.iou).any():
        known = ", ".join(f"{threshold:.2f}" for threshold in THRESHOLDS)
        raise InputError(f"--iou: {arguments.iou}, not one of {known}")
    truth = None
    if arguments.workdir:
        run = _run(arguments)
        evaluator, read, more = run.evaluator, run.image, {"step": run.step}
    else:
        truth = files.read_coco(arguments.annotations, iou_type)
        evaluator = CocoEvaluator(truth.category_names, iou_type, _sigmas(arguments, truth))
        found = _warned(truth, files.read_coco_results(arguments.predictions, truth, iou_type))
        evaluator.update(np.arange(len(truth.images)), truth.objects, found)
        read, more = _image_reader(arguments, truth), {}
    if arguments.max_dets:
        evaluator.also_with(arguments.max_dets)
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
    keys[-2:-2] = [f"{name}@{arguments.max_dets}" for name in ("AP", "AR")]
    _table(
        f"precision, recall: score >= {arguments.score}, IoU {arguments.iou}", per_category, keys
    )
    if arguments.plots:
        _plot(arguments, evaluator, curves, read)
    if truth is not None and iou_type == "bbox":

        def evaluate(objects: ObjectRows, detections: DetectionRows) -> Figures:
            other = CocoEvaluator(evaluator.categories)
            other.update(np.arange(len(truth.images)), objects, detections)
            return other.compute()

        _warn_of_format(arguments, truth, matches[1], evaluate, "AP", figures)
    return figures


def _lvis(arguments: argparse.Namespace) -> Figures:
    iou_type = arguments.iou_type
    truth = files.read_coco(arguments.annotations, iou_type, "lvis")
    frequencies = {category.id: category.frequency for category in truth.categories}
    for category in truth.categories:
        if category.frequency not in FREQUENCIES:
            raise InputError(f"{arguments.annotations}: category {category.id} has no frequency")
    found = _warned(truth, files.read_coco_results(arguments.predictions, truth, iou_type))
    absent, incomplete = (
        np.array(
            [(i, k) for i, image in enumerate(truth.images) for k in getattr(image, field)], int
        ).reshape(-1, 2)
        for field in ("neg_category_ids", "not_exhaustive_category_ids")
    )

    def evaluate(objects: ObjectRows, detections: DetectionRows) -> Figures:
        evaluator = LvisEvaluator(truth.category_names, frequencies, iou_type)
        images = np.arange(len(truth.images))
        evaluator.update(images, objects, detections, absent, incomplete)
        return evaluator.compute()

    figures = evaluate(truth.objects, found)
    print(
        "\n".join(f" {key:<7}= {value:.3f}" for key, value in figures.items() if _is_number(value))
    )
    _table("", figures["per_category"], ["AP", "AP50"])
    if iou_type == "bbox":
        _warn_of_format(arguments, truth, found, evaluate, "AP", figures)
    return figures


def _voc(arguments: argparse.Namespace) -> Figures:
    truth = files.read_voc(arguments.annotations)
    found = _warned(truth, files.read_voc_results(arguments.predictions, truth))

    def evaluate(objects: ObjectRows, detections: DetectionRows) -> Figures:
        evaluator = VocEvaluator(truth.category_names, arguments.iou, arguments.eleven_point)
        evaluator.update(np.arange(len(truth.images)), objects, detections)
        return evaluator.compute()

    figures = evaluate(truth.objects, found)
    print(f" mAP = {figures['mAP']:.4f}")
    _table("", figures["per_category"], ["AP", "precision", "recall"])
    _warn_of_format(arguments, truth, found, evaluate, "mAP", figures)
    return figures


_EVALUATE = {"coco": _coco, "lvis": _lvis, "voc": _voc}


def _is_number(value: object) -> bool:
    return isinstance(value, float)


def _table(title: str, per_category: object, keys: Sequence[str]) -> None:
    """Prints a table of figures by category; categories without objects are left out."""
    assert isinstance(per_category, dict)
    table = Table(title=title or None)
    table.add_column("category")
    keys = [key for key in keys if any(key in row for row in per_category.values())]
    for key in keys:
        table.add_column(key, justify="right")
    for name, row in per_category.items():
        if row["AP"] >= 0:
            table.add_row(name, *(figure(row[key], 3) for key in keys))
    Console().print(table)


def _image_reader(arguments: argparse.Namespace, truth: GroundTruth) -> Read | None:
    """A function that reads the image at a position from ``--images``; None without that."""
    if not arguments.images:
        return None

    def read(image: int) -> np.ndarray | None:
        from eval.plots import read_image

        one = truth.images[image]
        path = Path(find_file(arguments.images, one.file_name or ""))
        return read_image(path, (one.height, one.width))

    return read


def _plot(
    arguments: argparse.Namespace,
    evaluator: CocoEvaluator,
    curves: Mapping[str, Curve],
    read: Read | None,
) -> None:
    from eval import pictures, plots  # imports matplotlib, which only plots need

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
