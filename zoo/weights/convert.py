"""Tensors of a checkpoint to the leaves of a model, with a report that accounts for every name."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers.position import resize_positions
from zoo.weights.maps import HEAD, NameMap, Rule, as_grid, plan, reason


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of every leaf of the model and of every tensor of the file.

    Attributes:
        file: Where the tensors came from.
        source: Whose names they have.
        loaded: Leaves that were filled from the file, resized ones included.
        implied: Leaves that the file does not hold but that follow from what it is, and how.
        resized: Leaves that were interpolated, with the shapes.
        reinitialised: Leaves that stay as initialised since another head was asked for, and why.
        dropped: Tensors of the file that the model has no use for, and why.
        missing: Leaves that the file does not have, with the names that were looked for.
        mismatched: Leaves whose tensor in the file has another shape, with the shapes.
        unexpected: Tensors of the file that no leaf corresponds to.
        fields: Fields that the source's own models have and a file does not tell.
    """

    file: str
    source: str
    loaded: tuple[str, ...]
    implied: dict[str, str]
    resized: dict[str, str]
    reinitialised: dict[str, str]
    dropped: dict[str, str]
    missing: dict[str, str]
    mismatched: dict[str, str]
    unexpected: tuple[str, ...]
    fields: dict[str, Any]

    @property
    def problems(self) -> int:
        """Number of names that nothing explains."""
        return len(self.missing) + len(self.mismatched) + len(self.unexpected)

    def error(self) -> str:
        """One line with the first unexplained names of both sides."""
        sides = {
            "the model lacks": self.unexpected,
            "the file lacks": [f"{ours} ({theirs})" for ours, theirs in self.missing.items()],
            "shapes differ in": [f"{ours} ({why})" for ours, why in self.mismatched.items()],
        }
        parts = [f"{what} {_first(names)}" for what, names in sides.items() if names]
        return f"{self.file} as {self.source}: {'; '.join(parts)}"

    def __str__(self) -> str:
        """A few lines for the terminal: the count of loaded leaves, then every departure."""
        lines = [f"{self.file} ({self.source}): {len(self.loaded)} leaves loaded"]
        for what in ("implied", "resized", "reinitialised", "dropped", "missing", "mismatched"):
            for why, names in _by_reason(getattr(self, what)).items():
                lines.append(f"  {what}: {_first(names, 6)}: {why}")
        lines += [f"  {self.source} has {name}={value}" for name, value in self.fields.items()]
        return "\n".join([*lines, *(f"  unexpected: {name}" for name in self.unexpected)])


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """The names that share a reason."""
    found: dict[str, list[str]] = {}
    for name, why in reasons.items():
        found.setdefault(why, []).append(name)
    return found


def _first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _read(step: Rule, tensor: np.ndarray) -> tuple[np.ndarray, ...] | str:
    """The leaves that a tensor makes up, or why it cannot."""
    try:
        return step.layout.read(tensor)
    except (ValueError, IndexError) as error:
        return f"{_shape(tensor.shape)} in the file: {error}"


def convert(
    file: str,
    model: nn.Module,
    name_map: NameMap,
    leaves: Mapping[str, jax.ShapeDtypeStruct],
    tensors: Mapping[str, np.ndarray],
    *,
    new_head: bool = False,
    grid: tuple[int, int] | None = None,
    place: Callable[[np.ndarray], Any] = lambda array: array,
) -> tuple[dict[str, Any], LoadReport]:
    """Fills a model's leaves from a checkpoint's tensors.

    Args:
        file: For the report.
        model: The model.
        name_map: The names of the file.
        leaves: The model's leaves by path, collection first.
        tensors: The checkpoint's tensors by name; read one by one, so that they can be lazy.
        new_head: Whether the caller asked for a number of classes, so that a head of another
            number in the file is no error.
        grid: Rows and columns of the file's positions, if it says so.
        place: What becomes of each leaf; an array that it is given can be a view of the file.

    Returns:
        The leaves that the file has, and what became of all others.
    """
    rules = name_map.rules(model)
    implied = {p: x for p, x in name_map.implied(model).items() if p in leaves}
    steps = plan(rules, (leaf for leaf in leaves if leaf not in implied))
    flat: dict[str, Any] = {}
    resized, reinitialised, missing, mismatched = {}, {}, {}, {}

    def take(path: str, array: np.ndarray) -> None:
        """Puts an array where it belongs, or notes why it does not fit."""
        want = leaves[path].shape
        if path.endswith("/pos_embed") and array.ndim == 2:
            try:
                array = as_grid(array, grid, want[:2])
            except ValueError as error:
                mismatched[path] = str(error)
                return
        change = f"{_shape(array.shape)} in the file, {_shape(want)} in the model"
        if path.endswith("/pos_embed") and array.shape != want and array.shape[2:] == want[2:]:
            array = np.asarray(resize_positions(jnp.asarray(array, jnp.float32), want[:2]))
            resized[path] = change
        if array.shape == want:
            flat[path] = place(array)
        elif new_head and path.startswith(HEAD):
            reinitialised[path] = change
        else:
            mismatched[path] = change

    for step in steps:
        if step.theirs not in tensors:
            lack = reinitialised if new_head and step.ours[0].startswith(HEAD) else missing
            lack.update(dict.fromkeys(step.ours, step.theirs))
            continue
        arrays = _read(step, tensors[step.theirs])
        if isinstance(arrays, str):
            mismatched.update(dict.fromkeys(step.ours, arrays))
            continue
        for path, array in zip(step.ours, arrays, strict=True):
            take(path, array)
    loaded = tuple(flat)
    for path, leaf in implied.items():
        take(path, leaf.value)
    reasons = dict(name_map.ignored)
    if new_head:
        heads = [entry.theirs for entry in rules if entry.ours[0].startswith(HEAD)]
        reasons |= dict.fromkeys(heads, "the model was asked for without this head")
    rest = sorted(tensors.keys() - {step.theirs for step in steps})
    dropped = {name: why for name in rest if (why := reason(name, reasons))}
    report = LoadReport(
        file=file,
        source=name_map.source,
        loaded=loaded,
        implied={path: leaf.why for path, leaf in implied.items()},
        resized=resized,
        reinitialised=reinitialised,
        dropped=dropped,
        missing=missing,
        mismatched=mismatched,
        unexpected=tuple(name for name in rest if name not in dropped),
        fields=dict(name_map.fields),
    )
    return flat, report
