"""The options of `eval.detection`."""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from eval.command import add_run_arguments, make_parser, path
from zoo.types import InputError

SIGMAS = (
    "keypoints: sigma of each joint, separated by commas; default: those of the run's data.sigmas,"
    " or COCO's for 17 joints, or else their mean, 0.067, for each joint"
)

SCALES = (
    "scales of a run's images, whose detections are merged: SHORTxLONG sides, separated by commas;"
    " with :SMALLEST-LARGEST after it only boxes with such a square root of their area count, in"
    " pixels of the original image, as 1400x2000:0-90,800x1280:32-180,480x512:75-"
)


def make_options() -> argparse.ArgumentParser:
    """The parser of ``python -m eval.detection``."""
    description = "Scores detections against ground truth, with the official tools' figures."
    parser = make_parser("detection", description)
    add = parser.add_argument
    add_run_arguments(parser, batch_size=32, required=False)
    add("--scales", help=SCALES)
    add("--soft_nms", type=float, default=0.55, help="sigma of the suppression between --scales")
    add("--results", type=path, help="file to write a run's detections to, as COCO results json")
    add("--annotations", type=Path, help="COCO or LVIS json; VOC: folder of xml")
    add("--predictions", type=Path, help="COCO results json; VOC: folder of txt")
    add("--style", choices=("coco", "lvis", "voc"), default="coco", help="format and rules")
    add("--iou_type", choices=("bbox", "segm", "keypoints"), default="bbox", help="what to compare")
    add("--sigmas", help=SIGMAS)
    add("--iou", type=float, default=0.5, help="IoU threshold of precision, recall, plots, VOC")
    add("--max_dets", type=int, help="also the figures for so many detections of an image")
    add("--score", type=float, default=0.5, help="lowest score in precision, recall, confusions")
    add("--eleven_point", action="store_true", help="VOC: 11-point AP of 2007")
    add("--plots", type=Path, help="folder for curves, confusion matrix and worst mistakes")
    add("--images", type=Path, help="folder of the images, to draw the worst mistakes on")
    return parser


def check_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Calls ``parser.error`` if the options cannot be combined."""
    if arguments.workdir and (arguments.annotations or arguments.predictions):
        parser.error("--workdir and files exclude each other")
    if not arguments.workdir and not (arguments.annotations and arguments.predictions):
        parser.error("--annotations and --predictions are needed, or --workdir")
    if arguments.scales and not arguments.workdir:
        parser.error("--scales needs --workdir")
    if not arguments.soft_nms > 0:
        parser.error("--soft_nms must be positive")
    if arguments.workdir and arguments.style != "coco":
        parser.error("--workdir needs --style=coco")
    if arguments.sigmas and arguments.iou_type != "keypoints":
        parser.error("--sigmas needs --iou_type=keypoints")
    if arguments.style != "coco" and arguments.plots:
        parser.error("--plots needs --style=coco")
    if arguments.style == "voc" and arguments.iou_type != "bbox":
        parser.error("--style=voc needs --iou_type=bbox")
    if arguments.style != "coco" and arguments.max_dets is not None:
        parser.error("--max_dets needs --style=coco")
    if arguments.style == "lvis" and arguments.iou_type == "keypoints":
        parser.error("--style=lvis has no keypoints")


def given_sigmas(arguments: argparse.Namespace) -> Float[np.ndarray, " j"] | None:
    """The numbers of ``--sigmas``; None without that.

    Raises:
        InputError: If they are not positive numbers.
    """
    if not arguments.sigmas:
        return None
    try:
        sigmas = np.array([float(part) for part in arguments.sigmas.split(",")])
    except ValueError:
        raise InputError(f"--sigmas: not numbers: {arguments.sigmas}") from None
    if not (np.isfinite(sigmas) & (sigmas > 0)).all():
        raise InputError(f"--sigmas: {arguments.sigmas}, but must be positive")
    return sigmas
