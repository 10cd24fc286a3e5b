"""Name maps: how another project's tensors correspond to our parameters, as a table.

A map is a function from a model to rules. A rule pairs one of their tensors with one or more of
ours and holds the layout change between them; the same table runs in both directions. ``{i}`` in
a pattern stands for a number and ``{path}`` for anything, the same on both sides. Our names are
paths with the collection first: ``params/blocks_0/attn/query/kernel``.

    >>> rules = dense("blocks.{i}.fc", "blocks_{i}/fc")
    >>> plan(rules, ["params/blocks_3/fc/kernel", "params/blocks_3/fc/bias"])[0].theirs
    'blocks.3.fc.weight'
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

HEAD = ("params/head/", "batch_stats/head_norm/")


class Layout(NamedTuple):
    """A layout change: `read` takes their array to a tuple of ours, `write` ours back to theirs."""

    read: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    write: Callable[..., np.ndarray]


class Rule(NamedTuple):
    """One of their tensors, what it is in ours, and the layout change."""

    theirs: str
    ours: tuple[str, ...]
    layout: Layout


class NameMap(NamedTuple):
    """The names of one source for one family of models.

    Attributes:
        source: ``timm``, ``torchvision``, ...
        rules: The table for a model.
        ignored: Shell-style patterns of their tensors that a model has no use for, and why.
        fields: Fields of the model that this source's models have and a file does not tell: those
            of a model loaded from another program's file, unless the caller gives others.
        implied: A function of a model to the leaves of ours that follow from what the file is: they
            are not looked for.
    """

    source: str
    rules: Callable[[nn.Module], tuple[Rule, ...]]
    ignored: Mapping[str, str] = MappingProxyType({})
    fields: Mapping[str, Any] = MappingProxyType({})
    implied: Callable[[nn.Module], dict[str, "Implied"]] = lambda _: {}


class Implied(NamedTuple):
    """A leaf that no tensor of the file makes up, and why it has this value."""

    value: np.ndarray
    why: str


SAME = Layout(lambda x: (x,), lambda x: x)
TRANSPOSE = Layout(lambda x: (x.T,), lambda x: x.T)
CONV = Layout(lambda x: (x.transpose(2, 3, 1, 0),), lambda x: x.transpose(3, 2, 0, 1))
# A 1 x 1 convolution that is a dense layer of ours.
POINTWISE = Layout(lambda x: (x[:, :, 0, 0].T,), lambda x: x.T[:, :, None, None])


# torch's BatchNorm counts batches for a momentum that none of these models uses.
BATCH_COUNTERS = {"*.num_batches_tracked": "a counter of batches, not used"}


def reshape(ours: tuple[int, ...], theirs: tuple[int, ...]) -> Layout:
    """The same numbers in the same order under another shape; -1 stands for one free axis."""

    def read(x: np.ndarray) -> tuple[np.ndarray]:
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
    """Their `count` arrays of one `part` layout, stacked along the first axis."""
    return Layout(
        lambda x: tuple(part.read(piece)[0] for piece in np.split(x, count)),
        lambda *xs: np.concatenate([part.write(x) for x in xs]),
    )


def positions(*, class_token: bool) -> Layout:
    """Their ``[1, n, d]`` positions, the class token's first if there is one; ours as a grid.

    What is read is still without rows and columns, ``[n, d]``: see `as_grid`.
    """

    def read(x: np.ndarray) -> tuple[np.ndarray, ...]:
        if x.ndim != 3 or len(x) != 1:
            raise ValueError("not positions of shape [1, n, d]")
        flat = x[0, int(class_token) :]
        return (flat, x[0, 0]) if class_token else (flat,)

    def write(map_: np.ndarray, *token: np.ndarray) -> np.ndarray:
        flat = map_.reshape(-1, map_.shape[-1])
        return np.concatenate([*(t[None] for t in token), flat])[None]

    return Layout(read, write)


def as_grid(flat: np.ndarray, known: tuple[int, int] | None, wanted: tuple[int, int]) -> np.ndarray:
    """Positions ``[n, d]`` as a grid: the file's if it is known, else a square, else the model's.

    Raises:
        ValueError: If there is no such grid of n positions.
    """
    count = len(flat)
    square = (math.isqrt(count),) * 2
    for rows, columns in (known or square, square, wanted):
        if rows * columns == count:
            return flat.reshape(rows, columns, flat.shape[-1])
    raise ValueError(f"{count} positions beside any class token's are not a square grid")


def position_rule(theirs: str, model: nn.Module, prefix: str = "") -> Rule:
    """Their positions, the class token's first if there is one; ours learned or fixed."""
    collection = "fixed" if model.positions == "fixed" else "params"
    names = ("pos_embed", "cls_pos_embed") if model.class_token else ("pos_embed",)
    paths = tuple(f"{collection}/{prefix}{name}" for name in names)
    return Rule(theirs, paths, positions(class_token=model.class_token))


def rule(theirs: str, *ours: str, layout: Layout = SAME) -> Rule:
    """A rule for parameters; `ours` without the collection."""
    return Rule(theirs, tuple(f"params/{path}" for path in ours), layout)


def dense(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Torch's Linear."""
    return (
        rule(f"{theirs}.weight", f"{ours}/kernel", layout=TRANSPOSE),
        rule(f"{theirs}.bias", f"{ours}/bias"),
    )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Torch's LayerNorm or GroupNorm."""
    return (
        rule(f"{theirs}.weight", f"{ours}/scale"),
        rule(f"{theirs}.bias", f"{ours}/bias"),
    )


def patch_embed(theirs: str, patch_size: int, ours: str = "patch_embed") -> tuple[Rule, ...]:
    """Torch's Conv2d over patches."""
    return (
        rule(f"{theirs}.weight", f"{ours}/proj/kernel", layout=patches(patch_size)),
        rule(f"{theirs}.bias", f"{ours}/proj/bias"),
    )


def conv(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Torch's Conv2d without bias."""
    return (rule(f"{theirs}.weight", f"{ours}/kernel", layout=CONV),)


def biased_conv(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Torch's Conv2d with bias."""
    return (*conv(theirs, ours), rule(f"{theirs}.bias", f"{ours}/bias"))


def batch_norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Torch's BatchNorm2d; a norm without statistics has the first two rules only."""
    return (
        *norm(theirs, ours),
        Rule(f"{theirs}.running_mean", (f"batch_stats/{ours}/mean",), SAME),
        Rule(f"{theirs}.running_var", (f"batch_stats/{ours}/var",), SAME),
    )


def fused_attention(weight: str, bias: str, ours: str) -> tuple[Rule, ...]:
    """Torch's one matrix for query, key and value."""
    kernels = [f"{ours}/{part}/kernel" for part in ("query", "key", "value")]
    biases = [f"{ours}/{part}/bias" for part in ("query", "key", "value")]
    return (
        rule(weight, *kernels, layout=fused(3, TRANSPOSE)),
        rule(bias, *biases, layout=fused(3, SAME)),
    )


def within(rules: Iterable[Rule], theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rules of a model that is a submodule: `theirs` is put before, `ours` is its path."""

    def path(name: str) -> str:
        collection, _, rest = name.partition("/")
        return f"{collection}/{ours}/{rest}"

    return tuple(Rule(theirs + r.theirs, tuple(map(path, r.ours)), r.layout) for r in rules)


@cache
def pattern(path: str) -> re.Pattern[str]:
    """A name with ``{i}`` for numbers, ``{path}`` for anything, as a regular expression."""
    groups = re.escape(path).replace(r"\{path\}", "(?P<path>.+)")
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", groups))


def plan(rules: Iterable[Rule], leaves: Iterable[str]) -> list[Rule]:
    """The rules with their numbers filled in, one for each tensor that makes up the leaves.

    Of two rules for a leaf the first counts.

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
    """Why a tensor may be dropped, if one of the shell-style patterns fits its name."""
    return next((why for theirs, why in reasons.items() if fnmatchcase(name, theirs)), None)
