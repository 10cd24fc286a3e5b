"""The detections of a run's model, from the run's folder: scored, and written as a result file."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from eval.coco import CocoEvaluator
from eval.detectors import evaluator, image_of, picture, sigmas_of, source_of
from eval.progress import track
from eval.records import DetectionRows
from eval.runs import open_run
from eval.scales import collect_scales
from zoo.data import DataError, Dataset, DetectionData, open_detection
from zoo.data.formats.coco_results import IouType
from zoo.ops.rle import to_strings
from zoo.types import InputError
from zoo.writing import write_whole


@dataclasses.dataclass(frozen=True)
class RunDetections:
    """The detections of a run's model.

    Attributes:
        evaluator: Contains the ground truth and the detections.
        data: The run's data.
        examples: The images.
        step: Step of the checkpoint.
        iou_type: What the evaluator compares.
        sigmas: Of each joint, if it compares keypoints.
    """

    evaluator: CocoEvaluator
    data: DetectionData
    examples: Dataset
    step: int
    iou_type: IouType = "bbox"
    sigmas: Float[np.ndarray, " j"] | None = None

    def image(self, index: int) -> np.ndarray | None:
        """An image in the pixels of its boxes, BGR for OpenCV; None if it cannot be read."""
        try:
            return cv2.cvtColor(image_of(self.examples, self.data, index), cv2.COLOR_RGB2BGR)
        except DataError:
            return None

    def write_results(self, path: Path) -> None:
        """Writes the detections as COCO's results json, with the data's own ids.

        Detections of classes that the data does not have are left out. An entry has what the
        evaluator compares: a box, a mask or keypoints.
        """
        _, detections = self.evaluator.rows()
        source = source_of(self.examples)
        found = np.unique(detections.images).tolist()
        image_ids = {index: source.annotations(index).image_id for index in found}
        entries = [
            {
                "image_id": image_ids[image],
                "category_id": source.category_ids[label],
                **shape,
                "score": score,
            }
            for image, label, shape, score in zip(
                detections.images.tolist(),
                detections.categories.tolist(),
                _shapes(detections, self.iou_type),
                detections.scores.tolist(),
                strict=True,
            )
            if source.category_ids[label] is not None
        ]
        write_whole(path, json.dumps(entries) + "\n")


def _shapes(detections: DetectionRows, iou_type: IouType) -> list[dict[str, Any]]:
    """What result files have of each detection, besides ids and score."""
    if iou_type == "segm" and (masks := detections.masks) is not None:
        return [
            {"segmentation": {"size": size, "counts": counts}}
            for size, counts in zip(masks.sizes.tolist(), to_strings(masks), strict=True)
        ]
    if iou_type == "keypoints" and (keypoints := detections.keypoints) is not None:
        flat = keypoints.reshape(len(keypoints), 3 * keypoints.shape[1]).round(2)
        return [{"keypoints": numbers} for numbers in flat.tolist()]
    return [{"bbox": box} for box in detections.boxes_xywh.round(2).tolist()]


def evaluate_run(
    arguments: argparse.Namespace, sigmas: Float[np.ndarray, " j"] | None = None
) -> RunDetections:
    """Finds the objects in the images of a run's evaluation split, with the run's model.

    Args:
        arguments: The options of `eval.detection`.
        sigmas: Of each joint, if keypoints are compared; None takes those of the run's data.

    Raises:
        InputError: If the run, its data or one of the arguments cannot be used.
    """
    run, iou_type = open_run(arguments, DetectionData), arguments.iou_type
    needed = {"segm": "masks", "keypoints": "keypoints"}.get(iou_type)
    if needed and not getattr(run.data, needed):
        raise InputError(f"--iou_type={iou_type}: {arguments.workdir} is a run without {needed}")
    examples = open_detection(run.data, "eval", class_names=run.class_names, track=track)
    if iou_type == "keypoints":
        sigmas = sigmas_of(run.data, examples, sigmas)
    masks = iou_type == "segm"
    if arguments.scales:
        collected = collect_scales(run, arguments, masks=masks)
    else:
        evaluate = evaluator(run.model, run.data, examples, run.batch_size, run.put, masks=masks)
        collected = evaluate(run.variables)
    if needed and not getattr(collected, f"has_{needed}"):
        model = type(run.model).__name__
        raise InputError(f"--iou_type={iou_type}: a {model} finds no {needed}")
    if masks:
        collected = collected.by_masks()
    elif sigmas is not None:
        collected = collected.by_keypoints(sigmas)
    path = arguments.workdir / "detections.png"
    picture(run.model, run.data, examples, run.put)(run.variables, path)
    print(f"detections: {path}")
    return RunDetections(collected, run.data, examples, run.step, iou_type, sigmas)
