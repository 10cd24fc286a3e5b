"""Finds, collects and draws a model's detections, during training or of a run."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float, UInt8

from eval.coco import CocoEvaluator
from eval.compiling import announced
from eval.overlap import default_sigmas
from eval.pictures import BoxPanel, draw_boxes
from eval.records import DetectionRows, ObjectRows, concatenate, detections_from_padded
from eval.runs import Put
from zoo.data import (
    Dataset,
    DetectionData,
    devices,
    eval_batches,
    normalize,
    prefetch,
)
from zoo.data.decode import example_image
from zoo.data.object_sources import DetectionSource
from zoo.ops.instance_masks import Size
from zoo.ops.palette import paint_objects
from zoo.ops.rle import Masks
from zoo.outputs import Proposals
from zoo.predict import detect
from zoo.predict.object_masks import binary_masks, run_length_masks
from zoo.types import InputError

Predict = Callable[[Mapping[str, Any], dict[str, Any]], Any]


def predictor(model: nn.Module, data: DetectionData) -> Predict:
    """A jitted function (variables, batch) -> detections in pixels of the original images."""

    @announced
    @jax.jit
    def predict(variables: Mapping[str, Any], batch: dict[str, Any]) -> Any:
        images = normalize(batch["image"], data.mean, data.std)
        sizes = batch["size"], batch["original_size"]
        proposals = proposals_of(batch)
        return detect(model, variables, images, *sizes, proposals, letterbox=data.letterbox)

    return predict


def proposals_of(batch: Mapping[str, Any]) -> Proposals | None:
    """The proposals in a batch of detection examples; None if the data have none."""
    if "proposals" not in batch:
        return None
    return Proposals(batch["proposals"], batch["proposals_valid"])


def ground_truth(examples: Dataset, index: int) -> ObjectRows:
    """The annotated objects of one image; category ids are labels, the image id is `index`."""
    found = source_of(examples).annotations(index)
    return ObjectRows(
        np.full(len(found), index),
        found.labels.astype(np.int64),
        found.boxes_xywh,
        found.areas,
        found.crowd,
        found.crowd | found.difficult,
        found.masks,
        found.keypoints,
        found.num_keypoints,
    )


def evaluator(
    model: nn.Module,
    data: DetectionData,
    examples: Dataset,
    batch_size: int,
    put: Put,
    *,
    masks: bool = True,
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
        masks: As for `collect`.

    Raises:
        InputError: As `collect`; raised by the function that is returned.
    """
    predict = predictor(model, data)
    return lambda variables: collect(
        partial(predict, variables), examples, batch_size, put, masks=masks
    )


def collect(
    predict: Callable[[dict[str, Any]], Any],
    examples: Dataset,
    batch_size: int,
    put: Put,
    *,
    masks: bool = True,
) -> CocoEvaluator:
    """Collects what `predict` finds in every image, together with the ground truth.

    Args:
        predict: Returns the `zoo.outputs.Detections` of a batch.
        examples: The images.
        batch_size: Images in a batch.
        put: Moves a batch to the devices.
        masks: Whether to keep the masks that are found; resizing them to the images takes time.

    Raises:
        InputError: If no image can be read, or the model has another number of joints than the
            data.
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
            truth = concatenate([ground_truth(examples, i) for i in images.tolist()])
            _check_joints(found, examples)
            collected.update(images, truth, _detections(found, host, masks=masks))
    collected, *others = devices.gather(collected)
    for other in others:
        collected.merge(other)
    if not sum(devices.gather(count)):
        raise InputError(f"none of the {len(examples)} images can be read")
    return collected


def all_figures(
    collected: CocoEvaluator, data: DetectionData, examples: Dataset
) -> dict[str, float]:
    """COCO's figures of what was collected.

    Those of boxes are called ``AP`` and so on; those of masks ``mask_AP``, and those of keypoints
    ``keypoint_AP``, if both the data and the model have masks or keypoints.
    """
    found = dict(collected.compute())
    others = {}
    if collected.has_masks:
        others["mask"] = collected.by_masks()
    if collected.has_keypoints:
        others["keypoint"] = collected.by_keypoints(sigmas_of(data, examples))
    for kind, evaluator in others.items():
        found |= {f"{kind}_{name}": value for name, value in evaluator.compute().items()}
    return {name: value for name, value in found.items() if isinstance(value, float)}


def sigmas_of(
    data: DetectionData, examples: Dataset, given: Float[np.ndarray, " j"] | None = None
) -> Float[np.ndarray, " j"]:
    """The sigmas given, or those of the data, or else `eval.overlap.default_sigmas`.

    Raises:
        InputError: If their number is not that of the joints.
    """
    joints = source_of(examples).joints
    count = len(joints.names) if joints else 0
    if given is None:
        return np.array(data.sigmas) if data.sigmas else default_sigmas(count)
    if len(given) != count:
        raise InputError(f"{data.source}: {count} joints but {len(given)} --sigmas")
    return given


def _check_joints(found: Any, examples: Dataset) -> None:
    joints = source_of(examples).joints
    if found.keypoints is None or joints is None:
        return
    count, wanted = found.keypoints.shape[-2], len(joints.names)
    if count != wanted:
        raise InputError(f"the model has {count} joints, but the data have {wanted}")


def _detections(found: Any, host: Mapping[str, np.ndarray], *, masks: bool) -> DetectionRows:
    """What was found in the real images of a batch; image ids are indices."""
    real = host["valid"]
    detections = detections_from_padded(
        host["index"][real],
        found.boxes[real],
        found.labels[real],
        found.scores[real],
        found.valid[real],
    )
    if found.keypoints is not None:
        keypoints = found.keypoints[real][found.valid[real]].astype(float)
        detections = dataclasses.replace(detections, keypoints=keypoints)
    if not masks or (found.masks is None and found.mask_crops is None):
        return detections
    rows = np.flatnonzero(real).tolist()
    runs = [
        run_length_masks(_take(found, row, found.valid[row]), *_sizes(host, row)) for row in rows
    ]
    return dataclasses.replace(
        detections, masks=Masks.concatenate([one for one in runs if one is not None])
    )


def _take(found: Any, row: int, kept: Bool[np.ndarray, " n"]) -> Any:
    """Some of the objects of one image of a batch."""
    return jax.tree.map(lambda x: x[row][kept], found)


def _sizes(batch: Mapping[str, np.ndarray], row: int) -> tuple[Size, Size, Size]:
    """Height and width of the padded input, of the image in it, and of the original image."""
    size, original = (tuple(batch[name][row].tolist()) for name in ("size", "original_size"))
    return batch["image"].shape[1:3], size, original


def source_of(examples: Dataset) -> DetectionSource:
    """The source of detection examples."""
    return cast(DetectionSource, examples.source)


def image_of(examples: Dataset, data: DetectionData, index: int) -> np.ndarray:
    """An image in the pixels of its boxes, uint8 [h w 3]."""
    return example_image(source_of(examples)[index], upright=data.upright)


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
            shown = _take(found, 0, found.valid[0] & (found.scores[0] >= 0.5))
            image = image_of(examples, data, int(index))
            masks = binary_masks(shown, *_sizes(batch, 0))
            if masks is not None:
                image = paint_objects(image, masks, shown.labels)
            panels.append(_panel(image, shown, examples, int(index)))
        draw_boxes(panels, path)

    return draw


def _panel(
    image: UInt8[np.ndarray, "h w 3"], shown: Any, examples: Dataset, index: int
) -> BoxPanel:
    """An image with its true objects and those to show of the found ones."""
    source = source_of(examples)
    truth, joints = source.annotations(index), source.joints
    texts = [
        f"{examples.class_names[label]} {score:.2f}"
        for label, score in zip(shown.labels, shown.scores, strict=True)
    ]
    limbs = joints.limbs if joints else ()
    return BoxPanel(image, truth.boxes, shown.boxes, texts, truth.keypoints, shown.keypoints, limbs)
