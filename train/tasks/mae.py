"""Masked image modelling: training on images without labels."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.knn
import eval.reconstruction
from train.tasks import Batch, Draw, Means, Put
from zoo import family
from zoo.data import ClassificationData, Dataset, normalize, open_classification
from zoo.models.pretraining.mae.loss import MaeLoss
from zoo.ops.patches import patchify
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoding:
    """Predicts hidden patches (arXiv 2111.06377). Training does not use labels.

    Attributes:
        loss: Settings of the loss: whether each patch is normalised.
        knn_neighbours: Number of neighbours of the k-NN probe at each evaluation. The probe uses
            labels, and passes all training images through the encoder. 0 switches it off.
    """

    loss: MaeLoss = dataclasses.field(default_factory=MaeLoss)
    knn_neighbours: int = 0

    kind: ClassVar[family.Task] = "pretraining"
    best: ClassVar[str] = "psnr"

    def __post_init__(self) -> None:
        if self.knn_neighbours < 0:
            raise InputError(f"knn_neighbours is {self.knn_neighbours}, but must be at least 0")

    def open(self, data: ClassificationData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_classification(data, split)

    def model_fields(self, data: ClassificationData, dataset: Dataset) -> dict[str, Any]:
        """The size of the images; a model that starts from this one needs it for the positions."""
        return {"image_size": data.image_size}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The initial variables of the model for images of this shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: ClassificationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images, and which examples are valid."""
        return {
            "images": normalize(batch["image"], data.mean, data.std),
            "valid": batch["valid"],
        }

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The images; the model draws the masks itself."""
        return (batch["images"],)

    def compute_loss(
        self, model: Any, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[Means, Means, Mapping[str, Any]]:
        """The mean error of the hidden patches of the valid images.

        The model draws a mask for each image from `key`, which differs from step to step.
        """
        mask_key, dropout_key = jax.random.split(key)
        streams = {"mask": mask_key, "dropout": dropout_key}
        output: Any = model.apply(variables, *self.inputs(batch), train=True, rngs=streams)
        patches = patchify(batch["images"], model.patch_size)
        unchanged = {name: tree for name, tree in variables.items() if name != "params"}
        return *self.loss(output, patches, batch["valid"]), unchanged

    def evaluator(
        self,
        model: Any,
        data: ClassificationData,
        dataset: Dataset,
        batch_size: int,
        put: Put,
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """The loss and the PSNR, as in `eval.reconstruction`, and the top-1 of the k-NN probe."""
        arguments = (model, data, dataset, batch_size, put)
        restoring = eval.reconstruction.evaluator(*arguments, self.loss.norm_pix_loss)
        if not self.knn_neighbours:
            return restoring
        probing = eval.knn.evaluator(*arguments, self.knn_neighbours)
        return lambda variables: {**restoring(variables), **probing(variables)}

    def pictures(
        self, model: Any, data: ClassificationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """Draws reconstructions, as `eval.reconstruction` does, to ``reconstructions.png``."""
        draw = eval.reconstruction.drawer(model, data, dataset, self.loss.norm_pix_loss)

        def pictures(variables: Mapping[str, Any], folder: Path) -> None:
            draw(variables, folder / "reconstructions.png")

        return pictures
