"""Checks of detection data: they name the usual mistakes in own data that make AP 0."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from eval.box_formats import box_problem, describe_problem
from eval.coco import CocoEvaluator
from eval.detectors import all_figures, collect, predictor
from eval.pictures import BoxPanel, draw_boxes
from eval.records import detections_from_padded, objects_from_padded
from train.checks.findings import Findings, class_table
from train.checks.proposals import describe_proposals
from train.config import Config
from train.model import build
from train.tasks import Batch, Put
from train.tasks.detection import Detection
from zoo.data import Dataset, DetectionData
from zoo.data.annotations import Annotations
from zoo.data.errors import DataError
from zoo.data.formats.json_file import decode_json
from zoo.data.object_files import coco_paths
from zoo.data.object_sources import DetectionSource
from zoo.ops.instance_masks import paste_binary_masks
from zoo.ops.letterbox import way_back
from zoo.ops.palette import paint_objects
from zoo.outputs import Detections
from zoo.predict import detect

_SAMPLE = 5_000  # images whose boxes are checked
_MATCHED = 0.5  # share of objects that must have a fitting anchor


def explain(config: Config) -> str | None:
    """Finds category ids in a COCO json that are shifted by one against its categories."""
    data: DetectionData = config.data
    kind, _, folder = data.source.partition(":")
    if kind != "coco":
        return None
    splits = (
        (data.train_split, data.train_annotations, data.train_images),
        (data.eval_split, data.eval_annotations, data.eval_images),
    )
    for split in splits:
        path, _ = coco_paths(folder, *split, data.keypoints)
        try:
            file = decode_json(path, dict, "a COCO annotation file")
            known = {category["id"] for category in file["categories"]}
            used = {annotation["category_id"] for annotation in file["annotations"]}
        except (DataError, KeyError, TypeError):
            continue
        if not all(isinstance(one, int | float) for one in known | used):
            continue
        for shift in (1, -1):
            if not used <= known and {category + shift for category in used} <= known:
                return (
                    f"{path}: the annotations' category ids {_span(used)} are shifted by one"
                    f" against the ids of the categories, {_span(known)}: add {shift} to each"
                    " category_id, or change the ids of the categories"
                )
    return None


def _span(ids: set[int]) -> str:
    return f"{min(ids)}..{max(ids)}"


def inspect(data: DetectionData, train: Dataset, held_out: Dataset) -> Findings:
    """A table of categories and numbers of boxes, and problems in the boxes."""
    sources = {"train": _source(train), "eval": _source(held_out)}
    both = {"train": train, "eval": held_out}
    proposals = {split: getattr(one.transform, "proposals", None) for split, one in both.items()}
    findings = Findings(class_table([], {}), [], [])
    columns: dict[str, Any] = {"category id": sources["train"].category_ids}
    for split, source in sources.items():
        spread = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int)).tolist()
        found = [source.annotations(index) for index in spread]
        labels = np.concatenate([one.labels for one in found])
        counts = np.bincount(labels, minlength=len(train.class_names)).tolist()
        columns[f"{split} boxes"] = counts
        findings.notes.append(_summary(split, found, len(source)))
        if (table := proposals[split]) is not None:
            findings.notes.append(f"{split}: {describe_proposals(source, table, spread)}")
        findings.problems += [f"{split}: {problem}" for problem in box_problems(found)]
        if len(source) <= _SAMPLE:
            findings.problems += [
                f"{split}: category {source.category_ids[label]} ({name}) has no box"
                for label, name in enumerate(train.class_names)
                if not counts[label]
            ]
    differing = [
        f"{name} is {ours} in train but {theirs} in eval"
        for name, ours, theirs in zip(
            train.class_names, *(source.category_ids for source in sources.values()), strict=True
        )
        if theirs is not None and ours != theirs
    ]
    if differing:
        findings.notes.append(f"categories are matched by name; ids differ: {differing[0]}")
    findings.notes.append(
        "boxes are read as [x, y, width, height] in pixels; training uses the centre, width and"
        " height as shares of the image"
    )
    findings.table = class_table(train.class_names, columns)
    return findings


def _source(dataset: Dataset) -> DetectionSource:
    return cast(DetectionSource, dataset.source)


def _summary(split: str, found: list[Annotations], total: int) -> str:
    sides = np.sqrt(np.concatenate([one.boxes_xywh[:, 2:].prod(axis=1) for one in found]))
    empty = sum(not len(one) for one in found)
    middle = f"; median side of a box {np.median(sides):.1f} px" if len(sides) else ""
    looked = f" (in {len(found)} checked images)" if len(found) < total else ""
    return (
        f"{split}: {total} images, {len(sides)} boxes, {empty} images without boxes{looked}{middle}"
    )


def box_problems(found: list[Annotations]) -> list[str]:
    """Finds boxes in a wrong format by their numbers.

    Args:
        found: The objects of a number of images.
    """
    boxes = np.concatenate([one.boxes_xywh for one in found])
    if not len(boxes):
        return ["no image has a box"]
    sizes = np.concatenate([np.tile(one.size[::-1], (len(one), 1)) for one in found])
    problem = box_problem(boxes, sizes)
    return [] if problem is None else [describe_problem(problem, boxes, sizes)]


def draw(data: DetectionData, train: Dataset, batch: Batch, path: Path) -> None:
    """Draws a padded batch with the boxes, masks and keypoints that training uses."""
    panels = []
    host = {name: np.asarray(values) for name, values in batch.items()}
    joints = _source(train).joints
    limbs = joints.limbs if joints else ()
    for i, (image, valid) in enumerate(zip(host["image"], host["box_valid"], strict=True)):
        boxes, labels = host["boxes"][i][valid], host["labels"][i][valid]
        texts = [train.class_names[label] for label in labels.tolist()]
        if "masks" in host:
            masks = host["masks"][i][valid]
            if data.mask_size is not None:
                masks = paste_binary_masks(masks / np.float32(255), boxes, image.shape[:2])
            image = paint_objects(image, masks, labels)
        keypoints = host["keypoints"][i][valid] if "keypoints" in host else None
        panels.append(BoxPanel(image, np.zeros((0, 4)), boxes, texts, None, keypoints, limbs))
    draw_boxes(panels, path)


def missing_outputs(config: Config, batch: Batch) -> list[str]:
    """Problems if the data have masks or keypoints, but the model does not find any.

    A loss that learns other things from them says so in its class variable `learns_from`.

    Args:
        config: A completed configuration.
        batch: A batch of the training data; only its shapes matter.
    """
    model, variables = build(config, batch)
    sizes = jnp.ones((len(batch["image"]), 2), jnp.int32)
    images = jnp.zeros(batch["image"].shape, jnp.float32)
    found = jax.eval_shape(partial(detect, model), variables, images, sizes, sizes)
    has = {
        "masks": found.masks is not None or found.mask_crops is not None,
        "keypoints": found.keypoints is not None,
    }
    used = getattr(cast(Detection, config.task).loss, "learns_from", ())
    return [
        f"data.{part} is true, but {config.model.name} finds no {part}: they are not trained on"
        for part, there in has.items()
        if getattr(config.data, part) and not there and part not in used
    ]


def unmatched(first: dict[str, float]) -> tuple[list[str], list[str]]:
    """Notes on levels without objects, and a problem if few objects fit the anchors or points.

    Args:
        first: Metrics of a batch: see `zoo.models.detection.parts.dense_loss.dense_metrics`. Losses
            without them give no notes and no problems.
    """
    levels = [
        name.removeprefix("positive_level_")
        for name, count in first.items()
        if name.startswith("positive_level_") and not count
    ]
    notes = [f"no object of the batch has an anchor or a point of level {i}" for i in levels]
    unused = [
        name.removeprefix("positive_anchor_")
        for name, count in first.items()
        if name.startswith("positive_anchor_") and not count
    ]
    if unused:
        notes.append(f"no object of the batch has the anchor {', '.join(unused)} of its cell")
    share = first.get("matched_objects", 1.0)
    if share >= _MATCHED:
        return notes, []
    return notes, [
        f"only {100 * share:.0f}% of the batch's objects have a fitting anchor or point: compare"
        " their sizes with those of model.anchor_fields, with model.limits, or with the model's"
        " stride"
    ]


def score_batch(
    config: Config, model: nn.Module, variables: Mapping[str, Any], batch: Batch
) -> dict[str, float]:
    """AP and AP50 of what the model finds in a batch of the training data.

    Args:
        config: A completed configuration; a model whose boxes are letterboxed is scored in the
            pixels of the batch.
        model: Of the configuration.
        variables: Of the model.
        batch: Its boxes are the truth; those to be ignored are ignored.
    """
    data = dataclasses.replace(config.data, letterbox=False)
    host = {**jax.device_get(batch), "original_size": np.asarray(batch["size"])}
    found = jax.device_get(predictor(model, data)(variables, host))
    images, valid = np.arange(len(host["image"])), host["box_valid"]
    truth = objects_from_padded(
        images, host["boxes"], host["labels"], valid, host.get("box_ignored")
    )
    collected = CocoEvaluator(
        {label: str(label) for label in np.unique(host["labels"][valid]).tolist()}
    )
    rows = detections_from_padded(images, found.boxes, found.labels, found.scores, found.valid)
    collected.update(images, truth, rows)
    figures = collected.compute()
    return {name: cast(float, figures[name]) for name in ("AP", "AP50")}


def score_truth(
    data: DetectionData, dataset: Dataset, batch_size: int, put: Put
) -> dict[str, float]:
    """COCO's figures, also of the keypoints, for predictions that are equal to the targets."""
    perfect = jax.jit(partial(_perfect, letterbox=data.letterbox))
    return all_figures(collect(perfect, dataset, batch_size, put), data, dataset)


def _perfect(batch: dict[str, Any], *, letterbox: bool) -> Detections:
    """The targets of a batch as predictions, in pixels of the original images.

    A joint that is not labelled is predicted in the middle of its box, and an object without any
    labelled joint with a lower score: so the 20 best detections of an image, which COCO scores by
    keypoints, are those with joints.
    """
    way = way_back(batch["size"], batch["original_size"], letterbox=letterbox)
    offset, scale = (x[:, None] for x in way)
    boxes, scores = batch["boxes"], batch["box_valid"].astype(jnp.float32)
    keypoints = batch.get("keypoints")
    if keypoints is not None:
        labelled = keypoints[..., 2:] > 0
        middle = (boxes[..., None, :2] + boxes[..., None, 2:]) / 2
        points = jnp.where(labelled, keypoints[..., :2], middle)
        points = (points - offset[:, None]) * scale[:, None]
        keypoints = jnp.concatenate([points, keypoints[..., 2:]], axis=-1)
        scores = scores * jnp.where(labelled.any(axis=(2, 3)), 1, 0.5)
    return Detections(
        boxes=(boxes - jnp.tile(offset, 2)) * jnp.tile(scale, 2),
        scores=scores,
        labels=batch["labels"],
        valid=batch["box_valid"],
        keypoints=keypoints,
    )
