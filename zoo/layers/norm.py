"""Normalisation layers for convolutional networks, by name."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Norm = Literal["batch", "frozen", "group"]


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics, scale and bias are constants, as in detectors.

    It has the same variables as `nn.BatchNorm`. The scale and bias get no gradient.
    """

    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Normalises with the stored statistics."""
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape).value
        var = self.variable("batch_stats", "var", jnp.ones, shape).value
        scale = scale * jax.lax.rsqrt(var + self.epsilon)
        scale, bias = jax.lax.stop_gradient((scale, bias - mean * scale))
        return x * scale.astype(self.dtype) + bias.astype(self.dtype)


def norm_layer(
    kind: Norm,
    dtype: DTypeLike,
    *,
    train: bool,
    num_groups: int = 32,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> partial:
    """A function that makes layers of a kind of norm, with torch's numbers: call it with ``name=``.

    Args:
        kind: ``batch``, which updates ``batch_stats`` in training; ``frozen``, the same variables
            as constants; ``group``, without statistics.
        dtype: Dtype of the computation.
        train: Whether to normalise with the statistics of the batch.
        num_groups: Number of groups of ``group``.
        epsilon: Added to the variance.
        momentum: Share of the old statistics that ``batch`` keeps in a step of training.
    """
    match kind:
        case "batch":
            return partial(
                nn.BatchNorm,
                use_running_average=not train,
                momentum=momentum,
                epsilon=epsilon,
                dtype=dtype,
            )
        case "frozen":
            return partial(FrozenBatchNorm, epsilon=epsilon, dtype=dtype)
        case "group":
            return partial(
                nn.GroupNorm,
                num_groups=num_groups,
                epsilon=epsilon,
                dtype=dtype,
                use_fast_variance=False,
            )
