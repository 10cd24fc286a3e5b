"""Drop path: stochastic depth for each example (arXiv 1603.09382)."""

import jax
from flax import linen as nn
from jaxtyping import Array, Float


class DropPath(nn.Module):
    """Drops a residual branch for random examples, and scales it by 1 / (1 - rate) for the others.

    The expected value is the branch itself, as in timm; big_vision's version does not rescale.

    Attributes:
        rate: Probability of dropping, in 0..1 (exclusive).
    """

    rate: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b ..."],
        *,
        rate: Float[Array, ""] | None = None,
        train: bool = False,
    ) -> Float[Array, "b ..."]:
        """The branch, with zeros for dropped examples; training needs the ``dropout`` stream.

        `rate` replaces the field of the same name in scanned layers, which all have equal fields.
        """
        if not 0 <= self.rate < 1:
            raise ValueError(f"drop path of {self.rate} is not in 0..1")
        if not train or (rate is None and self.rate == 0):
            return x
        keep = 1 - (self.rate if rate is None else rate.astype(x.dtype))
        shape = (x.shape[0], *(1 for _ in x.shape[1:]))
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return x * kept.astype(x.dtype) / keep
