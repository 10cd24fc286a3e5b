"""Detections of a trained model: found, scored, drawn; during training and for a run's folder."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import jax
import numpy as np
from flax import linen as nn

from eval.coco import CocoEvaluator
from eval.pictures import draw_boxes
from eval.records import Objects, concatenate, detections_from_padded
from eval.runs import Put, open_run
from zoo.data import (
    DataError,
    Dataset,
    DetectionData,
    devices,
    eval_batches,
    normalize,
    open_detection,
    prefetch,
    valid_pixels,
)
from zoo.data.decode import decode_image
from zoo.data.detection_sources import DetectionSource
from zoo.ops.instance_masks import full_size_masks
from zoo.ops.palette import paint_objects
from zoo.ops.rle import Masks, from_arrays, to_strings
from zoo.predict import predict_detections
from zoo.types import InputError

Predict = Callable[[Mapping[str, Any], dict[str, Any]], Any]


def predictor(model: nn.Module, data: DetectionData) -> Predict:
    """A jitted function of variables and a batch: detections in pixels of the original images."""

    @jax.jit
    def predict(variables: Mapping[str, Any], batch: dict[str, Any]) -> Any:
        images = normalize(batch["image"], data.mean, data.std)
        valid = valid_pixels(batch["size"], (images.shape[1], images.shape[2]))
        output: Any = model.apply(variables, images, valid)
        return predict_detections(output, batch["original_size"])

    return predict


def ground_truth(examples: Dataset, index: int) -> Objects:
    """The annotated objects of one image; categories are labels, the image's id is its index."""
    found = _source(examples).annotations(index)
    return Objects(
        np.full(len(found), index),
        found.labels.astype(np.int64),
        found.boxes_xywh,
        found.areas,
        found.crowd,
        found.crowd | found.difficult,
        found.masks,
    )


def evaluator(
    model: nn.Module, data: DetectionData, examples: Dataset, batch_size: int, put: Put
) -> Callable[[Mapping[str, Any]], CocoEvaluator]:
    """A function of the variables that gathers their detections on every image.

    It compiles one program for each bucket of shapes. Categories are labels, and an image's id is
    its index.

    Args:
        model: Gives what `zoo.predict.predict_detections` takes.
        data: Says how images are normalised.
        examples: What to evaluate on.
        batch_size: Images at a time; no figure depends on it.
        put: Moves a batch to the devices.

    Raises:
        InputError: While evaluating, if no image can be read.
    """
    predict = predictor(model, data)
    return lambda variables: gather(partial(predict, variables), examples, batch_size, put)


def gather(
    predict: Callable[[dict[str, Any]], Any], examples: Dataset, batch_size: int, put: Put
) -> CocoEvaluator:
    """What `predict` finds in every image, beside the ground truth.

    Args:
        predict: Batches to `zoo.predict.Detections`.
        examples: The images.
        batch_size: Images at a time.
        put: Moves a batch to the devices.

    Raises:
        InputError: If no image can be read.
    """
    gathered = CocoEvaluator(dict(enumerate(examples.class_names)))
    shares = eval_batches(examples, batch_size, **devices.this_process())
    batches = prefetch(shares, lambda host: (host, put(host)))
    count = 0
    with closing(batches):
        for host, batch in batches:
            found = devices.fetch_rows(predict(batch))
            valid = host["valid"]
            if not valid.any():
                continue
            images = host["index"][valid]
            count += len(images)
            detections = detections_from_padded(
                images,
                found.boxes[valid],
                found.labels[valid],
                found.scores[valid],
                np.ones(found.labels[valid].shape, bool),
            )
            if found.masks is not None:
                rows = np.flatnonzero(valid).tolist()
                masks = [from_arrays(_masks(found.masks[row], host, row)) for row in rows]
                detections = dataclasses.replace(detections, masks=Masks.concatenate(masks))
            truth = concatenate([ground_truth(examples, i) for i in images.tolist()])
            gathered.update(images, truth, detections)
    gathered, *others = devices.gather(gathered)
    for other in others:
        gathered.merge(other)
    if not sum(devices.gather(count)):
        raise InputError(f"none of the {len(examples)} images can be read")
    return gathered


@dataclasses.dataclass(frozen=True)
class RunDetections:
    """What a run's model found.

    Attributes:
        evaluator: The gathered ground truth and detections.
        data: The run's data.
        examples: The images.
        step: Step of the checkpoint.
        by_masks: Whether the evaluator compares masks.
    """

    evaluator: CocoEvaluator
    data: DetectionData
    examples: Dataset
    step: int
    by_masks: bool = False

    def image(self, index: int) -> np.ndarray | None:
        """An image as its boxes are, BGR, for OpenCV; None if it cannot be read."""
        try:
            return cv2.cvtColor(_image(self.examples, self.data, index), cv2.COLOR_RGB2BGR)
        except DataError:
            return None

    def write_results(self, path: Path) -> None:
        """Writes the detections as COCO's results json, with the data's own ids.

        Classes that the data does not have are left out. Each has its mask or its box, whichever
        the evaluator compares.
        """
        _, detections = self.evaluator.gathered()
        source = _source(self.examples)
        found = np.unique(detections.images).tolist()
        image_ids = {index: source.annotations(index).image_id for index in found}
        if self.by_masks and detections.masks is not None:
            masks = detections.masks
            shapes = [
                {"segmentation": {"size": size, "counts": counts}}
                for size, counts in zip(masks.sizes.tolist(), to_strings(masks), strict=True)
            ]
        else:
            boxes = detections.boxes_xywh.tolist()
            shapes = [{"bbox": [round(value, 2) for value in box]} for box in boxes]
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
                shapes,
                detections.scores.tolist(),
                strict=True,
            )
            if source.category_ids[label] is not None
        ]
        path.write_text(json.dumps(entries) + "\n")


def evaluate_run(arguments: argparse.Namespace) -> RunDetections:
    """What the model of a run's folder finds in the images of its evaluation split.

    Raises:
        InputError: If the run, its data, or what the arguments change of them is not usable.
    """
    run = open_run(arguments, DetectionData)
    if arguments.iou_type == "segm" and not run.data.masks:
        raise InputError(f"--iou_type=segm: {arguments.workdir} is a run without masks")
    examples = open_detection(run.data, "eval", class_names=run.class_names)
    evaluate = evaluator(run.model, run.data, examples, run.batch_size, run.put)
    gathered = evaluate(run.variables)
    if by_masks := arguments.iou_type == "segm":
        gathered = gathered.by_masks()
    path = arguments.workdir / "detections.png"
    picture(run.model, run.data, examples, run.put)(run.variables, path)
    print(f"detections: {path}")
    return RunDetections(gathered, run.data, examples, run.step, by_masks)


def _masks(logits: np.ndarray, batch: Mapping[str, Any], row: int) -> np.ndarray:
    """Masks [n h w] of one image of a batch, in the pixels of the original image."""
    canvas = batch["image"].shape[1:3]
    size, original = (tuple(batch[name][row].tolist()) for name in ("size", "original_size"))
    return full_size_masks(logits, canvas, size, original)


def _source(examples: Dataset) -> DetectionSource:
    return cast(DetectionSource, examples.source)


def _image(examples: Dataset, data: DetectionData, index: int) -> np.ndarray:
    """An image as its boxes are, uint8 [h w 3]."""
    example = _source(examples)[index]
    image = example["image"]
    if isinstance(image, bytes):
        image = decode_image(image, example["name"], upright=data.upright)
    return image


def picture(
    model: nn.Module, data: DetectionData, examples: Dataset, put: Put, count: int = 12
) -> Callable[[Mapping[str, Any], Path], None]:
    """A function of variables and a path that draws what is found in a few images.

    Args:
        model: Gives what `zoo.predict.predict_detections` takes.
        data: Says how images are normalised.
        examples: Images; those drawn are spread over all of them.
        put: Moves a batch to the devices.
        count: How many.
    """
    predict = predictor(model, data)
    rows = jax.local_device_count()

    def draw(variables: Mapping[str, Any], path: Path) -> None:
        panels = []
        for index in np.linspace(0, len(examples) - 1, min(count, len(examples))).astype(int):
            example = examples.example(int(index), np.random.default_rng(0))
            if not example["valid"]:
                continue
            example.pop("error")
            batch = {name: np.stack([value] * rows) for name, value in example.items()}
            found = devices.fetch_rows(predict(variables, put(batch)))
            shown = found.scores[0] >= 0.5
            texts = [
                f"{examples.class_names[label]} {score:.2f}"
                for label, score in zip(found.labels[0][shown], found.scores[0][shown], strict=True)
            ]
            truth = _source(examples).annotations(int(index)).boxes
            image = _image(examples, data, int(index))
            if found.masks is not None:
                masks = _masks(found.masks[0][shown], batch, 0)
                image = paint_objects(image, masks, found.labels[0][shown])
            panels.append((image, truth, found.boxes[0][shown], texts))
        draw_boxes(panels, path)

    return draw
