"""A weighted mean that is kept as a sum and a normaliser."""

from typing import no_type_check

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Shaped


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class Mean(struct.PyTreeNode):
    """A weighted sum and the sum of the weights.

    Both can be added up over parts of a batch, devices and hosts. A family's loss returns one for
    each of its terms. The loss of a step is the sum of the terms' values over the global batch.
    """

    total: Float[Array, ""]
    weight: Float[Array, ""]

    @classmethod
    def of(cls, values: Shaped[Array, "*n"], weights: Shaped[Array, "*n"]) -> "Mean":
        """The mean of `values` with `weights` of the same shape."""
        return cls(
            jnp.sum(values * weights, dtype=jnp.float32), jnp.sum(weights, dtype=jnp.float32)
        )

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.weight + other.weight)

    def value(self) -> Float[Array, ""]:
        """The mean; 0 if the sum of the weights is 0."""
        return self.total / jnp.where(self.weight == 0, 1.0, self.weight)


Means = dict[str, Mean]
