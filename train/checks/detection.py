"""Checks of detection data: the mistakes that make AP 0 on one's own data, told by name."""

from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from eval.detectors import gather
from eval.pictures import draw_boxes
from train.checks.findings import Findings, class_table
from train.config import Config
from train.tasks import Batch, Put
from zoo.data import Dataset, DetectionData
from zoo.data.annotations import Annotations
from zoo.data.coco import coco_paths
from zoo.data.detection_sources import DetectionSource
from zoo.models.detr import DetrOutput
from zoo.ops.boxes import xyxy_to_cxcywh
from zoo.predict import Detections, predict_detections

_SAMPLE = 5_000  # images whose boxes are looked at
_OUTSIDE = 0.02  # share of boxes beyond their images that is still an annotator's slip


def explain(config: Config) -> str | None:
    """Category ids that are shifted against the categories, in COCO's json."""
    data: DetectionData = config.data
    kind, _, folder = data.source.partition(":")
    if kind != "coco":
        return None
    splits = (
        (data.train_split, data.train_annotations, data.train_images),
        (data.eval_split, data.eval_annotations, data.eval_images),
    )
    for split in splits:
        path, _ = coco_paths(folder, *split)
        try:
            file = msgspec.json.decode(Path(path).read_bytes())
            known = {category["id"] for category in file["categories"]}
            used = {annotation["category_id"] for annotation in file["annotations"]}
        except (OSError, msgspec.DecodeError, KeyError, TypeError):
            continue
        for shift in (1, -1):
            if not used <= known and {category + shift for category in used} <= known:
                return (
                    f"{path}: the annotations' category ids {_span(used)} are shifted by one"
                    f" against the categories' {_span(known)}: add {shift} to each category_id, or"
                    " number the categories as the annotations do"
                )
    return None


def _span(ids: set[int]) -> str:
    return f"{min(ids)}..{max(ids)}"


def inspect(data: DetectionData, train: Dataset, held_out: Dataset) -> Findings:
    """The category map, and whether the boxes are what they should be."""
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
        "boxes are read as [x, y, width, height] in pixels, and trained on as the centre, width and"
        " height in shares of the image"
    )
    findings.table = class_table(train.class_names, columns)
    return findings


def _source(dataset: Dataset) -> DetectionSource:
    return cast(DetectionSource, dataset.source)


def _summary(split: str, found: list[Annotations], total: int) -> str:
    sides = np.sqrt(np.concatenate([one.boxes_xywh[:, 2:].prod(axis=1) for one in found]))
    empty = sum(not len(one) for one in found)
    middle = f"; median side of a box {np.median(sides):.1f} px" if len(sides) else ""
    looked = f" (of {len(found)} looked at)" if len(found) < total else ""
    return (
        f"{split}: {total} images, {len(sides)} boxes, {empty} images without any{looked}{middle}"
    )


def box_problems(found: list[Annotations]) -> list[str]:
    """What the numbers of the boxes say about their format.

    Args:
        found: The objects of a number of images.
    """
    boxes = np.concatenate([one.boxes_xywh for one in found])
    if not len(boxes):
        return ["there is no box at all"]
    sizes = np.concatenate([np.tile(one.size[::-1], (len(one), 1)) for one in found])
    first, second = boxes[:, :2], boxes[:, 2:]
    if boxes.max() <= 1.5 and sizes.min() > 8:
        return [
            f"no number of a box is above {boxes.max():.3g}: they look like shares of the image;"
            " COCO's are pixels, so multiply x and width by the image's width, y and height by its"
            " height"
        ]
    outside = (first + second > sizes + 1).any(axis=1).mean()
    corners = ((second > first) & (second <= sizes + 1)).all(axis=1).mean()
    if outside > _OUTSIDE and corners > 1 - _OUTSIDE:
        return [
            f"{outside:.0%} of the boxes reach beyond their images, and all would fit as corners:"
            " they look like [x1, y1, x2, y2]; COCO's are [x, y, width, height], so subtract"
        ]
    if outside > _OUTSIDE:
        return [
            f"{outside:.0%} of the boxes reach beyond their images: they belong to images of"
            " another size, or are not [x, y, width, height] in pixels"
        ]
    return []


def draw(data: DetectionData, train: Dataset, batch: Batch, path: Path) -> None:
    """Draws a padded batch with the boxes that are trained on."""
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
    """COCO's figures of the targets as a perfect model would give them."""
    predict = jax.jit(lambda batch: _perfect(batch, dataset.num_classes))
    found = gather(predict, dataset, batch_size, put).compute()
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _perfect(batch: dict[str, Any], num_classes: int) -> Detections:
    """What the targets of a batch look like as the outputs of a model, as predictions."""
    scale = jnp.tile(batch["size"][:, ::-1].astype(jnp.float32), 2)[:, None]
    labels = jnp.where(batch["box_valid"], batch["labels"], num_classes)
    logits = 20 * jax.nn.one_hot(labels, num_classes + 1)
    boxes = xyxy_to_cxcywh(batch["boxes"]) / scale
    nothing: dict[str, Any] = {
        "auxiliary_logits": logits[None][:0],
        "auxiliary_boxes_cxcywh": boxes[None][:0],
    }
    return predict_detections(DetrOutput(logits, boxes, **nothing), batch["original_size"])
