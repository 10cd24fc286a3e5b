"""Detection, with or without masks, as the prediction of a set (DETR, arXiv 2005.12872)."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.detectors
from train.tasks import Batch, Mean, Put
from zoo.data import Dataset, DetectionData, normalize, open_detection, valid_pixels
from zoo.losses.detection import mask_losses, set_losses
from zoo.ops.boxes import xyxy_to_cxcywh
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class Detection:
    """Boxes and classes of objects, matched one to one with a model's queries.

    Attributes:
        class_weight: Of the cross-entropy in the loss.
        l1_weight: Of the boxes' L1 distance in the loss.
        giou_weight: Of 1 - GIoU in the loss.
        focal_weight: Of the masks' focal loss, for a model and data with masks.
        dice_weight: Of the masks' dice loss, likewise.
        class_cost: Of the class's probability in the matching.
        l1_cost: Of the boxes' L1 distance in the matching.
        giou_cost: Of GIoU in the matching.
        no_object_weight: Weight of a query that no object is matched to, in the cross-entropy.
    """

    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    focal_weight: float = 1.0
    dice_weight: float = 1.0
    class_cost: float = 1.0
    l1_cost: float = 5.0
    giou_cost: float = 2.0
    no_object_weight: float = 0.1

    best: ClassVar[str] = "AP"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise InputError(
                    f"task.{field.name} is {getattr(self, field.name)}, but must be at least 0"
                )

    def open(self, data: DetectionData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_detection(data, split)

    def model_fields(self, data: DetectionData, dataset: Dataset) -> dict[str, Any]:
        """As many classes as the data has, and whether it has masks."""
        return {"num_classes": dataset.num_classes, "masks": data.masks}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The model's variables for images of that shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: DetectionData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images with their padding, and boxes relative to the images' own sizes."""
        height, width = batch["image"].shape[1:3]
        size = batch["size"].astype(jnp.float32)[:, ::-1]  # width, height
        boxes = xyxy_to_cxcywh(batch["boxes"]) / jnp.tile(size, 2)[:, None]
        return {
            "images": normalize(batch["image"], data.mean, data.std),
            "image_valid": valid_pixels(batch["size"], (height, width)),
            "labels": batch["labels"],
            "boxes_cxcywh": jnp.where(batch["box_valid"][..., None], boxes, 0.5),
            "box_valid": batch["box_valid"],
            "valid": batch["valid"],
            **({"masks": batch["masks"]} if data.masks else {}),
        }

    def loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[dict[str, Mean], dict[str, Mean], Mapping[str, Any]]:
        """Losses of all decoder layers; the share of objects whose query has their class."""
        output, changed = model.apply(
            variables,
            batch["images"],
            batch["image_valid"],
            train=True,
            rngs={"dropout": key},
            mutable=[name for name in variables if name != "params"],
        )
        sums = set_losses(
            jnp.concatenate([output.auxiliary_logits, output.logits[None]]),
            jnp.concatenate([output.auxiliary_boxes_cxcywh, output.boxes_cxcywh[None]]),
            batch["labels"],
            batch["boxes_cxcywh"],
            batch["box_valid"],
            valid_images=batch["valid"],
            no_object_weight=self.no_object_weight,
            class_cost=self.class_cost,
            l1_cost=self.l1_cost,
            giou_cost=self.giou_cost,
        )
        losses = {
            "class": Mean(self.class_weight * sums.classes.sum(), sums.class_weight),
            "l1": Mean(self.l1_weight * sums.l1.sum(), sums.num_boxes),
            "giou": Mean(self.giou_weight * sums.giou.sum(), sums.num_boxes),
        }
        if output.masks is not None:
            valid = batch["box_valid"] & batch["valid"][:, None]
            focal, dice = mask_losses(output.masks, batch["masks"], sums.queries[-1], valid)
            losses["focal"] = Mean(self.focal_weight * focal, sums.num_boxes)
            losses["dice"] = Mean(self.dice_weight * dice, sums.num_boxes)
        metrics = {
            "class_accuracy": Mean(sums.class_hits, sums.num_boxes),
            "cardinality_error": Mean(sums.cardinality_error, sums.num_images),
        }
        return losses, metrics, changed

    def evaluator(
        self, model: nn.Module, data: DetectionData, dataset: Dataset, batch_size: int, put: Put
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """COCO's twelve figures, as `eval.detection` has them; ``mask_AP`` ... are of masks."""
        evaluate = eval.detectors.evaluator(model, data, dataset, batch_size, put)

        def figures(variables: Mapping[str, Any]) -> dict[str, float]:
            gathered = evaluate(variables)
            found = gathered.compute()
            if data.masks:
                by_masks = gathered.by_masks().compute()
                found |= {f"mask_{name}": value for name, value in by_masks.items()}
            return {name: value for name, value in found.items() if isinstance(value, float)}

        return figures

    def pictures(
        self, model: nn.Module, data: DetectionData, dataset: Dataset, put: Put
    ) -> Callable[[Mapping[str, Any], Path], None]:
        """Draws what is found in a few images to ``detections.png``."""
        draw = eval.detectors.picture(model, data, dataset, put)
        return lambda variables, folder: draw(variables, folder / "detections.png")
