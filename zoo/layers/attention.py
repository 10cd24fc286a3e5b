"""Multi-head attention ("Attention is all you need", arXiv 1706.03762, section 3.2)."""

import functools
import logging
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int


def _kernel(
    platform: str, dtype: DTypeLike, width: int, *, masked: bool
) -> Literal["cudnn", "xla"]:
    """The fastest kernel for heads of that width; cuDNN's supports few dtypes and widths.

    It is not used with masks: cuDNN takes them as a bias, whose axes must be even in training.
    """
    fits = jnp.dtype(dtype).itemsize == 2 and width % 8 == 0 and width <= 128 and not masked
    return "cudnn" if platform == "gpu" and fits else "xla"


def _attend(
    q: Float[Array, "b q heads w"],
    k: Float[Array, "b n heads w"],
    v: Float[Array, "b n heads w"],
    mask: Bool[Array, "#b #heads #q #n"] | None,
    kernel: Literal["cudnn", "xla"],
) -> Float[Array, "b q heads w"]:
    """Attention by a kernel; by XLA's where the GPU or its cuDNN does not support cuDNN's."""
    if kernel == "cudnn":
        try:
            return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        except (NotImplementedError, RuntimeError) as error:  # while tracing; nothing has run
            _warn_slower(str(error))
    return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="xla")


@functools.cache  # once for each reason
def _warn_slower(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "attention runs without cuDNN's kernel, which is slower: %s", reason
    )


def _attention_maps(
    q: Float[Array, "b q heads w"],
    k: Float[Array, "b n heads w"],
    mask: Bool[Array, "#b #heads #q #n"] | None,
) -> Float[Array, "b heads q n"]:
    """The weight of each key for each query, in float32."""
    logits = jnp.einsum("bqhd,bnhd->bhqn", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    return jax.nn.softmax(logits)


class MultiHeadAttention(nn.Module):
    """Attention of queries over keys and values, with heads of equal width.

    Projections are called ``query``, ``key``, ``value`` and ``out``; all have a bias. Call it with
    queries alone for self-attention. The attention maps ``[b, heads, q, n]``, after softmax, are
    sown as ``attention`` when ``intermediates`` is mutable; otherwise they are only computed in
    full when dropout needs them.

    To decode a sequence in steps, give `position`. In self-attention, keys and values are then kept
    in the collection ``cache``, whose length is the number of queries in the first call. In
    attention over given keys, which do not change from step to step, they are computed once and
    kept in the collection ``memory``. For an example see `zoo.text.decoding`.

    Attributes:
        num_heads: Number of heads; it divides the features of the queries.
        dropout: Rate of dropout on the attention maps.
        projection_init: Initialiser of the kernels of query, key and value.
        dtype: Dtype of the computation; the softmax is in float32. Parameters are float32.
    """

    num_heads: int
    dropout: float = 0.0
    projection_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "b q d"],
        keys: Float[Array, "b n e"] | None = None,
        values: Float[Array, "b n f"] | None = None,
        *,
        mask: Bool[Array, "#b #heads #q #n"] | None = None,
        position: int | Int[Array, ""] | None = None,
        train: bool = False,
    ) -> Float[Array, "b q d"]:
        """Attends.

        Args:
            queries: Features from which the queries are projected.
            keys: Features from which the keys are projected; the queries if absent.
            values: Features from which the values are projected; the keys if absent.
            mask: True where a query may attend to a key. A query that may attend to no key gets the
                mean of all values.
            position: Place of the first query in a sequence that is decoded in steps. Without
                `keys`, each query attends to itself and to all earlier tokens, which are in the
                cache. With `keys`, these are projected only if they are not yet in ``memory``.
            train: Whether dropout is on; needs the ``dropout`` stream.
        """
        to_itself = keys is None
        keys = queries if keys is None else keys
        values = keys if values is None else values
        features = queries.shape[-1]
        if features % self.num_heads:
            raise ValueError(f"{features} features do not divide into {self.num_heads} heads")

        def project(name: str, x: Float[Array, "b n _"]) -> Float[Array, "b n heads w"]:
            x = nn.Dense(features, dtype=self.dtype, kernel_init=self.projection_init, name=name)(x)
            return x.reshape(*x.shape[:-1], self.num_heads, -1)  # b n heads d/heads

        def kept(name: str, x: Float[Array, "b n _"]) -> Float[Array, "b places heads w"]:
            if not to_itself:
                return self.variable("memory", f"{name}s", project, name, x).value
            new = project(name, x)
            cache = self.variable("cache", f"{name}s", lambda: new)
            cache.value = jax.lax.dynamic_update_slice_in_dim(cache.value, new, first, axis=1)
            return cache.value

        take, first = (project, 0) if position is None else (kept, position)
        q, k, v = project("query", queries), take("key", keys), take("value", values)
        if position is not None and to_itself:
            mask = jnp.arange(k.shape[1]) <= position + jnp.arange(q.shape[1])[:, None]
            mask = mask[None, None]
        drops = train and self.dropout > 0
        if drops or self.is_mutable_collection("intermediates"):
            weights = _attention_maps(q, k, mask).astype(v.dtype)
            self.sow("intermediates", "attention", weights)
            weights = nn.Dropout(self.dropout)(weights, deterministic=not drops)
            x = jnp.einsum("bhqn,bnhd->bqhd", weights, v)
        else:
            kernel = _kernel(jax.default_backend(), q.dtype, q.shape[-1], masked=mask is not None)
            x = _attend(q, k, v, mask, kernel)
        x = x.reshape(*x.shape[:-2], features)
        return nn.Dense(
            features, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="out"
        )(x)
