"""Detection: boxes and classes of objects, with masks or keypoints, for every detector."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.detectors
from eval.progress import track
from train.tasks import Batch, Means, Put, changing
from zoo import family
from zoo.data import Dataset, DetectionData, normalize, open_detection, valid_pixels
from zoo.data.object_sources import DetectionSource
from zoo.outputs import Targets
from zoo.predict.outputs import check_proposals
from zoo.registry import family_of


@dataclasses.dataclass(frozen=True)
class Detection:
    """Boxes and classes of objects.

    Attributes:
        loss: The settings of the loss of the model's family, such as
            `zoo.models.detection.detr.loss.DetrLoss`.
    """

    loss: Any

    kind: ClassVar[family.Task] = "detection"
    best: ClassVar[str] = "AP"

    def open(self, data: DetectionData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_detection(data, split, track=track)

    def model_fields(self, data: DetectionData, dataset: Dataset) -> dict[str, Any]:
        """The number of classes of the data, whether it has masks, and the number of joints."""
        fields = {"num_classes": dataset.num_classes, "masks": data.masks}
        joints = cast(DetectionSource, dataset.source).joints
        return fields if joints is None else {**fields, "num_keypoints": len(joints.names)}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The initial variables of the model for images of this shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: DetectionData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised padded images, which of their pixels are real, and their objects."""
        height, width = batch["image"].shape[1:3]
        if data.proposals is not None:
            check_proposals(family_of(model))
        targets = Targets(
            batch["boxes"],
            batch["labels"],
            batch["box_valid"],
            batch["size"],
            batch["valid"],
            masks=batch["masks"] if data.masks else None,
            mask_frames=batch["boxes"] if data.mask_size else None,
            keypoints=batch["keypoints"] if data.keypoints else None,
            ignored=batch.get("box_ignored"),
        )
        return {
            "images": normalize(batch["image"], data.mean, data.std),
            "image_valid": valid_pixels(batch["size"], (height, width)),
            "proposals": eval.detectors.proposals_of(batch),
            "targets": targets,
        }

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The images, a mask that is True on pixels that are not padding, and any proposals."""
        inputs = batch["images"], batch["image_valid"]
        return inputs if batch["proposals"] is None else (*inputs, batch["proposals"])

    def compute_loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[Means, Means, Mapping[str, Any]]:
        """The losses and metrics that the family's loss computes."""
        output, changed = model.apply(
            variables,
            *self.inputs(batch),
            targets=batch["targets"],
            train=True,
            rngs={"dropout": key, "sample": jax.random.fold_in(key, 1)},
            mutable=changing(variables),
        )
        return *self.loss(output, batch["targets"]), changed

    def evaluator(
        self, model: nn.Module, data: DetectionData, dataset: Dataset, batch_size: int, put: Put
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """COCO's figures, as in `eval.detection`; see `eval.detectors.all_figures`."""
        evaluate = eval.detectors.evaluator(model, data, dataset, batch_size, put, masks=data.masks)
        return lambda variables: eval.detectors.all_figures(evaluate(variables), data, dataset)

    def pictures(
        self, model: nn.Module, data: DetectionData, dataset: Dataset, put: Put
    ) -> Callable[[Mapping[str, Any], Path], None]:
        """Draws the objects that are found in a few images to ``detections.png``."""
        draw = eval.detectors.picture(model, data, dataset, put)
        return lambda variables, folder: draw(variables, folder / "detections.png")
