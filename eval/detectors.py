"""Finds, scores and draws a model's detections, during training or from a run's folder."""

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
from eval.compiling import announced
from eval.pictures import draw_boxes
from eval.records import ObjectRows, concatenate, detections_from_padded
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
)
from zoo.data.decode import decode_image
from zoo.data.object_sources import DetectionSource
from zoo.ops.instance_masks import full_size_masks
from zoo.ops.palette import paint_objects
from zoo.ops.rle import Masks, from_arrays, to_strings
from zoo.predict import detect
from zoo.types import InputError
from zoo.writing import write_whole

Predict = Callable[[Mapping[str, Any], dict[str, Any]], Any]


def predictor(model: nn.Module, data: DetectionData) -> Predict:
    """A jitted function (variables, batch) -> detections in pixels of the original images."""

    @announced
    @jax.jit
    def predict(variables: Mapping[str, Any], batch: dict[str, Any]) -> Any:
        images = normalize(batch["image"], data.mean, data.std)
        return detect(model, variables, images, batch["size"], batch["original_size"])

    return predict


def ground_truth(examples: Dataset, index: int) -> ObjectRows:
    """The annotated objects of one image; category ids are labels, the image id is `index`."""
    found = _source(examples).annotations(index)
    return ObjectRows(
        np.full(len(found), index),
        found.labels.astype(np.int64),
        found.boxes_xywh,
        found.areas,
        found.crowd,
        found.crowd | found.difficult,
        found.masks,
        found.keypoints,
    )


def evaluator(
    model: nn.Module, data: DetectionData, examples: Dataset, batch_size: int, put: Put
) -> Callable[[Mapping[str, Any]], CocoEvaluator]:
    """A function of the variables that collects the model's detections in every image.

    It compiles one program for each bucket of shapes. Category ids are labels, and image ids
    are indices.

    Args:
        model: A detector.
        data: Its `mean` and `std` normalise the images.
        examples: The images to evaluate on.
        batch_size: Images in a batch; the figures do not depend on it.
        put: Moves a batch to the devices.

    Raises:
        InputError: If no image can be read; raised by the function that is returned.
    """
    predict = predictor(model, data)
    return lambda variables: collect(partial(predict, variables), examples, batch_size, put)


def collect(
    predict: Callable[[dict[str, Any]], Any], examples: Dataset, batch_size: int, put: Put
) -> CocoEvaluator:
    """Collects what `predict` finds in every image, together with the ground truth.

    Args:
        predict: Returns the `zoo.outputs.Detections` of a batch.
        examples: The images.
        batch_size: Images in a batch.
        put: Moves a batch to the devices.

    Raises:
        InputError: If no image can be read.
    """
    collected = CocoEvaluator(dict(enumerate(examples.class_names)))
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
                found.valid[valid],
            )
            if found.masks is not None:
                rows = np.flatnonzero(valid).tolist()
                masks = [
                    from_arrays(_masks(found.masks[row][found.valid[row]], host, row))
                    for row in rows
                ]
                detections = dataclasses.replace(detections, masks=Masks.concatenate(masks))
            truth = concatenate([ground_truth(examples, i) for i in images.tolist()])
            collected.update(images, truth, detections)
    collected, *others = devices.gather(collected)
    for other in others:
        collected.merge(other)
    if not sum(devices.gather(count)):
        raise InputError(f"none of the {len(examples)} images can be read")
    return collected


@dataclasses.dataclass(frozen=True)
class RunDetections:
    """The detections of a run's model.

    Attributes:
        evaluator: Contains the ground truth and the detections.
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
        """An image in the pixels of its boxes, BGR for OpenCV; None if it cannot be read."""
        try:
            return cv2.cvtColor(_image(self.examples, self.data, index), cv2.COLOR_RGB2BGR)
        except DataError:
            return None

    def write_results(self, path: Path) -> None:
        """Writes the detections as COCO's results json, with the data's own ids.

        Detections of classes that the data does not have are left out. An entry has a mask if the
        evaluator compares masks, and a box otherwise.
        """
        _, detections = self.evaluator.rows()
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
        write_whole(path, json.dumps(entries) + "\n")


def evaluate_run(arguments: argparse.Namespace) -> RunDetections:
    """Finds the objects in the images of a run's evaluation split, with the run's model.

    Raises:
        InputError: If the run, its data or one of the arguments cannot be used.
    """
    run = open_run(arguments, DetectionData)
    if arguments.iou_type == "segm" and not run.data.masks:
        raise InputError(f"--iou_type=segm: {arguments.workdir} is a run without masks")
    examples = open_detection(run.data, "eval", class_names=run.class_names)
    evaluate = evaluator(run.model, run.data, examples, run.batch_size, run.put)
    collected = evaluate(run.variables)
    if by_masks := arguments.iou_type == "segm":
        collected = collected.by_masks()
    path = arguments.workdir / "detections.png"
    picture(run.model, run.data, examples, run.put)(run.variables, path)
    print(f"detections: {path}")
    return RunDetections(collected, run.data, examples, run.step, by_masks)


def _masks(logits: np.ndarray, batch: Mapping[str, Any], row: int) -> np.ndarray:
    """Masks [n h w] of one image of a batch, in the pixels of the original image."""
    canvas = batch["image"].shape[1:3]
    size, original = (tuple(batch[name][row].tolist()) for name in ("size", "original_size"))
    return full_size_masks(logits, canvas, size, original)


def _source(examples: Dataset) -> DetectionSource:
    return cast(DetectionSource, examples.source)


def _image(examples: Dataset, data: DetectionData, index: int) -> np.ndarray:
    """An image in the pixels of its boxes, uint8 [h w 3]."""
    example = _source(examples)[index]
    image = example["image"]
    if isinstance(image, bytes):
        image = decode_image(image, example["name"], upright=data.upright)
    return image


def picture(
    model: nn.Module, data: DetectionData, examples: Dataset, put: Put, count: int = 12
) -> Callable[[Mapping[str, Any], Path], None]:
    """A function of variables and a path that draws the detections in a few images.

    Args:
        model: A detector.
        data: Its `mean` and `std` normalise the images.
        examples: The images; those to draw are taken from them at equal distances.
        put: Moves a batch to the devices.
        count: Number of images to draw.
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
            shown = found.valid[0] & (found.scores[0] >= 0.5)
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
