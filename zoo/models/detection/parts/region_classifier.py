"""What R-CNN and SPP-net have in common: all but how they pool the features of a region."""

from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.initializers import TORCH_LINEAR_INIT
from zoo.models.detection.parts.given_regions import ChosenRegions, choose_regions
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.outputs import RegionOutput, Scores
from zoo.outputs import Proposals, Targets

Classifier = Literal["softmax", "svm"]
SCORES: dict[str, Scores] = {"softmax": "softmax", "svm": "sigmoid"}
"""How the logits of each classifier become scores."""


class RegionClassifier(nn.Module):
    """Pooled features of regions to classes.

    R-CNN (arXiv 1311.2524, sections 2.3 and C): the network is fine-tuned with a ``softmax`` over
    the classes and the background. `train.svms` then fits linear SVMs on the features of the last
    dense layer, and linear box regressions on the pooled features.

    Attributes:
        num_classes: Without the background.
        classifier: ``softmax``, whose regions are not refined, or ``svm``, with box regression.
        dense_dims: Features of the dense layers, each with a ReLU; without any, the features are
            the pooled ones.
        dtype: Dtype of the dense layers; parameters and the last layers are float32.
    """

    num_classes: int
    classifier: Classifier = "softmax"
    dense_dims: tuple[int, ...] = (4096, 4096)
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the layers."""
        self.dense = [
            nn.Dense(dim, dtype=self.dtype, kernel_init=TORCH_LINEAR_INIT)
            for dim in self.dense_dims
        ]
        if self.classifier == "softmax":
            init = nn.initializers.normal(0.01)
            self.logits = nn.Dense(self.num_classes + 1, kernel_init=init)
        else:
            self.svm = nn.Dense(self.num_classes)
            self.ridge = nn.Dense(4 * self.num_classes)

    def features(self, pooled: Float[Array, "b r d"]) -> Float[Array, "b r features"]:
        """The features that are classified."""
        x = pooled.astype(self.dtype)
        for layer in self.dense:
            x = nn.relu(layer(x))
        return x.astype(jnp.float32)

    def __call__(
        self, pooled: Float[Array, "b r d"]
    ) -> tuple[Float[Array, "b r classes"], Float[Array, "b r k 4"] | None]:
        """Logits, and the refinements of the boxes: see `RegionOutput`."""
        x = self.features(pooled)
        if self.classifier == "softmax":
            return self.logits(x), None
        deltas = self.ridge(pooled.astype(jnp.float32))
        return self.svm(x), deltas.reshape(*x.shape[:2], self.num_classes, 4)


def region_features(
    detector: Any,
    images: Float[Array, "b h w c"],
    valid: Bool[Array, "b h w"] | None,
    proposals: Proposals,
) -> tuple[Float[Array, "b r d"], Float[Array, "b r features"]]:
    """What box regressions and SVMs are fitted to: the pooled features, and those of the head.

    Args:
        detector: As for `classify_regions`.
        images: A batch, padded below and on the right.
        valid: False for the padding; all pixels are valid if None.
        proposals: Regions within the images.
    """
    padded = pad_images(images, valid, 1)
    pooled = detector.pool(padded, ChosenRegions(proposals.boxes, proposals.valid, None))
    return pooled, detector.head.features(pooled)


def classify_regions(
    detector: Any,
    images: Float[Array, "b h w c"],
    valid: Bool[Array, "b h w"] | None,
    proposals: Proposals | None,
    targets: Targets | None,
    *,
    train: bool,
) -> RegionOutput:
    """The predictions of a detector for given regions.

    Args:
        detector: A module with the method `pool`, from a padded batch and its regions to their
            pooled features, a `RegionClassifier` as `head`, and the fields `classifier`,
            `decoding_fields` and those of `choose_regions`.
        images: A batch, padded below and on the right.
        valid: False for the padding; all pixels are valid if None.
        proposals: The regions; a grid of windows if None.
        targets: The objects. In training, regions are sampled with them.
        train: Whether batch norm is in training.
    """
    padded = pad_images(images, valid, 1)
    regions = choose_regions(detector, proposals, padded, targets, train=train)
    logits, deltas = detector.head(detector.pool(padded, regions, train=train))
    return RegionOutput(
        *(regions.boxes, regions.valid, logits, deltas, regions.samples),
        scores=SCORES[detector.classifier],
        decoding_fields=detector.decoding_fields,
    )
