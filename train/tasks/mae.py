"""Masked image modelling: learning from images without labels."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.knn
import eval.reconstruction
from train.tasks import Batch, Draw, Mean, Put
from zoo.data import ClassificationData, Dataset, normalize, open_classification
from zoo.losses.reconstruction import patch_errors
from zoo.ops.patches import patchify
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoding:
    """Restoring hidden patches (arXiv 2111.06377). Labels are not looked at in training.

    Attributes:
        norm_pix_loss: Whether the target is each patch less its mean, over its deviation: better
            features, but a prediction without brightness and contrast.
        knn_neighbours: Of the k-NN probe at each evaluation, which does look at labels and passes
            all training images through the encoder; 0 for no probe.
    """

    norm_pix_loss: bool = True
    knn_neighbours: int = 0

    best: ClassVar[str] = "psnr"

    def __post_init__(self) -> None:
        if self.knn_neighbours < 0:
            raise InputError(f"knn_neighbours is {self.knn_neighbours}, but must be at least 0")

    def open(self, data: ClassificationData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_classification(data, split)

    def model_fields(self, data: ClassificationData, dataset: Dataset) -> dict[str, Any]:
        """The size of the images, which says to other models what the positions were."""
        return {"image_size": data.image_size}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The model's variables for images of that shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: ClassificationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images, and which of them there are."""
        return {
            "images": normalize(batch["image"], data.mean, data.std),
            "valid": batch["valid"],
        }

    def loss(
        self, model: Any, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[dict[str, Mean], dict[str, Mean], Mapping[str, Any]]:
        """The mean over the hidden patches of the valid images, each masked by a draw of its own.

        `key` is of the step, and so are the masks.
        """
        images = batch["images"]
        mask_key, dropout_key = jax.random.split(key)
        streams = {"mask": mask_key, "dropout": dropout_key}
        output: Any = model.apply(variables, images, train=True, rngs=streams)
        patches = patchify(images, model.patch_size)
        errors = patch_errors(output.patches, patches, norm_pix_loss=self.norm_pix_loss)
        hidden = ~output.visible & batch["valid"][:, None]
        unchanged = {name: tree for name, tree in variables.items() if name != "params"}
        return {"loss": Mean.of(errors, hidden)}, {}, unchanged

    def evaluator(
        self,
        model: Any,
        data: ClassificationData,
        dataset: Dataset,
        batch_size: int,
        put: Put,
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """The loss and the PSNR as `eval.reconstruction` has them, and the k-NN probe's top-1."""
        arguments = (model, data, dataset, batch_size, put)
        restoring = eval.reconstruction.evaluator(*arguments, self.norm_pix_loss)
        if not self.knn_neighbours:
            return restoring
        probing = eval.knn.evaluator(*arguments, self.knn_neighbours)
        return lambda variables: {**restoring(variables), **probing(variables)}

    def pictures(
        self, model: Any, data: ClassificationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """Reconstructions, as `eval.reconstruction` draws them."""
        draw = eval.reconstruction.drawer(model, data, dataset, self.norm_pix_loss)

        def pictures(variables: Mapping[str, Any], folder: Path) -> None:
            draw(variables, folder / "reconstructions.png")

        return pictures
