"""The head of R-CNN and SPP-net: dense layers, and a softmax or SVMs with box regression."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.initializers import TORCH_LINEAR_INIT
from zoo.models.detection.parts.outputs import Scores

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
