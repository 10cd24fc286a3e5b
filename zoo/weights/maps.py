"""Name maps: tables of which tensor of another project corresponds to which of our parameters.

A map is a function from a model to rules. A rule pairs one of their tensors with one or more of
ours and holds the layout change between them; loading and saving use the same table. In a pattern
``{i}`` stands for a number and ``{path}`` for any text; each has the same value on both sides. Our
names are paths that begin with the collection: ``params/blocks_0/attn/query/kernel``.

    >>> rules = dense("blocks.{i}.fc", "blocks_{i}/fc")
    >>> plan(rules, ["params/blocks_3/fc/kernel", "params/blocks_3/fc/bias"])[0].theirs
    'blocks.3.fc.weight'
"""

import math
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache

import numpy as np
from flax import linen as nn
from jaxtyping import Shaped

from zoo.family import Layout, NameMap, Rule

SAME = Layout(lambda x: (x,), lambda x: x)
TRANSPOSE = Layout(lambda x: (x.T,), lambda x: x.T)
CONV = Layout(lambda x: (x.transpose(2, 3, 1, 0),), lambda x: x.transpose(3, 2, 0, 1))
# Their first convolution, of images in the order blue, green, red; ours is of red, green, blue.
CONV_OF_BGR = Layout(
    lambda x: (x[:, ::-1].transpose(2, 3, 1, 0),), lambda x: x.transpose(3, 2, 0, 1)[:, ::-1]
)
# Their 1 x 1 convolution; our dense layer.
POINTWISE = Layout(lambda x: (x[:, :, 0, 0].T,), lambda x: x.T[:, :, None, None])


# torch's BatchNorm counts batches for momentum=None, which none of these models uses.
BATCH_COUNTERS = {"*.num_batches_tracked": "a counter of batches, not used"}


def reshape(ours: tuple[int, ...], theirs: tuple[int, ...]) -> Layout:
    """The same numbers in the same order in another shape; -1 stands for one free axis."""

    def read(x: Shaped[np.ndarray, "..."]) -> tuple[Shaped[np.ndarray, "..."]]:
        if len(x.shape) != len(theirs) or any(
            want not in (-1, have) for want, have in zip(theirs, x.shape, strict=True)
        ):
            raise ValueError(f"not of shape {theirs}")
        return (x.reshape(ours),)

    return Layout(read, lambda x: x.reshape(theirs))


CLASS_TOKEN = reshape((-1,), (1, 1, -1))


def patches(patch_size: int) -> Layout:
    """Their convolution ``[d, c, p, p]`` over patches; our dense kernel ``[p * p * c, d]``."""
    shape = (patch_size, patch_size, -1)
    return Layout(
        lambda x: (x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),),
        lambda x: x.reshape(*shape, x.shape[-1]).transpose(3, 2, 0, 1),
    )


def fused(count: int, part: Layout) -> Layout:
    """Their one array of `count` stacked arrays of layout `part`; ours are `count` arrays."""
    return Layout(
        lambda x: tuple(part.read(piece)[0] for piece in np.split(x, count)),
        lambda *xs: np.concatenate([part.write(x) for x in xs]),
    )


def positions(*, class_token: bool) -> Layout:
    """Their positions ``[1, n, d]``, first the class token's if there is one; ours as a grid.

    `read` returns positions without rows and columns, ``[n, d]``; `as_grid` adds these.
    """

    def read(x: Shaped[np.ndarray, "..."]) -> tuple[Shaped[np.ndarray, "..."], ...]:
        if x.ndim != 3 or len(x) != 1:
            raise ValueError("not positions of shape [1, n, d]")
        flat = x[0, int(class_token) :]
        return (flat, x[0, 0]) if class_token else (flat,)

    def write(
        map_: Shaped[np.ndarray, "rows columns d"], *token: Shaped[np.ndarray, " d"]
    ) -> Shaped[np.ndarray, "1 n d"]:
        flat = map_.reshape(-1, map_.shape[-1])
        return np.concatenate([*(t[None] for t in token), flat])[None]

    return Layout(read, write)


def as_grid(
    flat: Shaped[np.ndarray, "n d"], known: tuple[int, int] | None, wanted: tuple[int, int]
) -> Shaped[np.ndarray, "rows columns d"]:
    """Positions ``[n, d]`` as a grid: the file's if it is known, else a square, else the model's.

    Raises:
        ValueError: If none of these grids has n positions.
    """
    count = len(flat)
    square = (math.isqrt(count),) * 2
    for rows, columns in (known or square, square, wanted):
        if rows * columns == count:
            return flat.reshape(rows, columns, flat.shape[-1])
    raise ValueError(f"{count} positions beside any class token's are not a square grid")


def position_rule(theirs: str, model: nn.Module, prefix: str = "") -> Rule:
    """The rule for positions, first the class token's if there is one; ours learned or fixed."""
    collection = "fixed" if model.positions == "fixed" else "params"
    names = ("pos_embed", "cls_pos_embed") if model.class_token else ("pos_embed",)
    paths = tuple(f"{collection}/{prefix}{name}" for name in names)
    return Rule(theirs, paths, positions(class_token=model.class_token))


# The zoo's own names, for any model.
ZOO = NameMap("zoo", lambda model: (Rule("{path}", ("{path}",), SAME),))


def rule(theirs: str, *ours: str, layout: Layout = SAME) -> Rule:
    """A rule for parameters; `ours` are paths without the collection."""
    return Rule(theirs, tuple(f"params/{path}" for path in ours), layout)


def dense(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's Linear."""
    return (
        rule(f"{theirs}.weight", f"{ours}/kernel", layout=TRANSPOSE),
        rule(f"{theirs}.bias", f"{ours}/bias"),
    )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's LayerNorm or GroupNorm."""
    return (
        rule(f"{theirs}.weight", f"{ours}/scale"),
        rule(f"{theirs}.bias", f"{ours}/bias"),
    )


def patch_embed(theirs: str, patch_size: int, ours: str = "patch_embed") -> tuple[Rule, ...]:
    """Rules for torch's Conv2d over patches."""
    return (
        rule(f"{theirs}.weight", f"{ours}/proj/kernel", layout=patches(patch_size)),
        rule(f"{theirs}.bias", f"{ours}/proj/bias"),
    )


def conv(theirs: str, ours: str, layout: Layout = CONV) -> tuple[Rule, ...]:
    """The rule for torch's Conv2d without bias."""
    return (rule(f"{theirs}.weight", f"{ours}/kernel", layout=layout),)


def pointwise(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's 1 x 1 Conv2d with bias; ours is a dense layer."""
    return (
        rule(f"{theirs}.weight", f"{ours}/kernel", layout=POINTWISE),
        rule(f"{theirs}.bias", f"{ours}/bias"),
    )


def biased_conv(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's Conv2d with bias."""
    return (*conv(theirs, ours), rule(f"{theirs}.bias", f"{ours}/bias"))


def batch_norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's BatchNorm2d; only the first two match a norm without statistics."""
    return (
        *norm(theirs, ours),
        Rule(f"{theirs}.running_mean", (f"batch_stats/{ours}/mean",), SAME),
        Rule(f"{theirs}.running_var", (f"batch_stats/{ours}/var",), SAME),
    )


def conv_norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for a block with ``conv`` and ``bn``; ours is a `zoo.layers.ConvNorm`."""
    return (*conv(f"{theirs}.conv", f"{ours}/conv"), *batch_norm(f"{theirs}.bn", f"{ours}/norm"))


def fused_attention(weight: str, bias: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's one matrix for query, key and value."""
    kernels = [f"{ours}/{part}/kernel" for part in ("query", "key", "value")]
    biases = [f"{ours}/{part}/bias" for part in ("query", "key", "value")]
    return (
        rule(weight, *kernels, layout=fused(3, TRANSPOSE)),
        rule(bias, *biases, layout=fused(3, SAME)),
    )


def within(rules: Iterable[Rule], theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rules of a submodule: with the prefix `theirs`, and at our path `ours`."""

    def path(name: str) -> str:
        collection, _, rest = name.partition("/")
        return f"{collection}/{ours}/{rest}"

    return tuple(Rule(theirs + r.theirs, tuple(map(path, r.ours)), r.layout) for r in rules)


@cache
def pattern(path: str) -> re.Pattern[str]:
    """The regular expression of a name with ``{i}`` for numbers and ``{path}`` for any text."""
    groups = re.escape(path).replace(r"\{path\}", "(?P<path>.+)")
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", groups))


def plan(rules: Iterable[Rule], leaves: Iterable[str]) -> list[Rule]:
    """The rules with numbers filled in, one for each tensor that holds some of the leaves.

    If two rules match a leaf, the first is used.

    Raises:
        ValueError: If a leaf has no rule: the source has no name for it.
    """
    leaves = list(leaves)
    known, covered, steps = set(leaves), set(), []
    for entry in rules:
        for match in filter(None, map(pattern(entry.ours[0]).fullmatch, leaves)):
            numbers = match.groupdict()
            ours = tuple(path.format(**numbers) for path in entry.ours)
            if known.issuperset(ours) and covered.isdisjoint(ours):
                covered.update(ours)
                steps.append(Rule(entry.theirs.format(**numbers), ours, entry.layout))
    if rest := sorted(known - covered):
        raise ValueError(f"no name for {rest[0]} ({len(rest)} such)")
    return steps


def reason(name: str, reasons: Mapping[str, str]) -> str | None:
    """Why a tensor may be dropped; None if no shell-style pattern matches its name."""
    return next((why for theirs, why in reasons.items() if fnmatchcase(name, theirs)), None)
