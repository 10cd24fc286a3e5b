"""The layouts of google-research's big_vision and vision_transformer (npz files), which are flax's.

Attention heads have a separate axis.
"""

from typing import Any

from zoo.family import Rule
from zoo.weights.maps import reshape, rule


def dense(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for a dense layer."""
    return (
        rule(f"{theirs}/kernel", f"{ours}/kernel"),
        rule(f"{theirs}/bias", f"{ours}/bias"),
    )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for a layer norm."""
    return (
        rule(f"{theirs}/scale", f"{ours}/scale"),
        rule(f"{theirs}/bias", f"{ours}/bias"),
    )


def patch_embed(theirs: str, model: Any) -> tuple[Rule, ...]:
    """Rules for a convolution over patches."""
    p, d = model.patch_size, model.hidden_dim
    return (
        rule(f"{theirs}/kernel", "patch_embed/proj/kernel", layout=reshape((-1, d), (p, p, -1, d))),
        rule(f"{theirs}/bias", "patch_embed/proj/bias"),
    )


def attention(theirs: str, ours: str, dim: int, heads: int) -> tuple[Rule, ...]:
    """Rules for attention with `heads` heads over `dim` features."""
    width = dim // heads
    kernel = reshape((dim, dim), (dim, heads, width))
    bias = reshape((dim,), (heads, width))
    parts = [
        (
            rule(f"{theirs}/{part}/kernel", f"{ours}/{part}/kernel", layout=kernel),
            rule(f"{theirs}/{part}/bias", f"{ours}/{part}/bias", layout=bias),
        )
        for part in ("query", "key", "value")
    ]
    out = reshape((dim, dim), (heads, width, dim))
    return (
        *(entry for pair in parts for entry in pair),
        rule(f"{theirs}/out/kernel", f"{ours}/out/kernel", layout=out),
        rule(f"{theirs}/out/bias", f"{ours}/out/bias"),
    )
