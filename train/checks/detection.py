"""Checks of detection data: they name the usual mistakes in own data that make AP 0."""

from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from eval.box_formats import box_problem, describe_problem
from eval.detectors import collect
from eval.pictures import draw_boxes
from train.checks.findings import Findings, class_table
from train.config import Config
from train.tasks import Batch, Put
from zoo.data import Dataset, DetectionData
from zoo.data.annotations import Annotations
from zoo.data.errors import DataError
from zoo.data.formats.json_file import decode_json
from zoo.data.object_files import coco_paths
from zoo.data.object_sources import DetectionSource
from zoo.outputs import Detections

_SAMPLE = 5_000  # images whose boxes are checked


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
    findings = Findings(class_table([], {}), [], [])
    columns: dict[str, Any] = {"category id": sources["train"].category_ids}
    for split, source in sources.items():
        spread = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int)).tolist()
        found = [source.annotations(index) for index in spread]
        labels = np.concatenate([one.labels for one in found])
        counts = np.bincount(labels, minlength=len(train.class_names)).tolist()
        columns[f"{split} boxes"] = counts
        findings.notes.append(_summary(split, found, len(source)))
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
    """Draws a padded batch with the boxes that training uses."""
    panels = []
    host = {name: np.asarray(values) for name, values in batch.items()}
    for image, boxes, labels, valid in zip(
        host["image"], host["boxes"], host["labels"], host["box_valid"], strict=True
    ):
        texts = [train.class_names[label] for label in labels[valid].tolist()]
        panels.append((image, np.zeros((0, 4)), boxes[valid], texts))
    draw_boxes(panels, path)


def score_truth(
    data: DetectionData, dataset: Dataset, batch_size: int, put: Put
) -> dict[str, float]:
    """COCO's figures for predictions that are equal to the targets."""
    found = collect(jax.jit(_perfect), dataset, batch_size, put).compute()
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _perfect(batch: dict[str, Any]) -> Detections:
    """The targets of a batch as predictions, in pixels of the original images."""
    scale = batch["original_size"].astype(jnp.float32) / batch["size"]
    return Detections(
        boxes=batch["boxes"] * jnp.tile(scale[:, None, ::-1], 2),
        scores=batch["box_valid"].astype(jnp.float32),
        labels=batch["labels"],
        valid=batch["box_valid"],
    )
