"""Fills a model's leaves from a checkpoint's tensors, with a report that covers every name."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.family import Family, NameMap, Rule
from zoo.layers.position import resize_positions
from zoo.types import Preprocessing
from zoo.weights.maps import as_grid, plan, reason


def implied_fields(name_map: NameMap, model: nn.Module) -> dict[str, Any]:
    """The fields of a model that the source's files imply: see `NameMap.fields`."""
    return dict(name_map.fields(model) if callable(name_map.fields) else name_map.fields)


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What happened to every leaf of the model and to every tensor of the file.

    Attributes:
        file: The file that the tensors came from.
        source: The project whose names they have.
        loaded: Leaves that were filled from the file, resized ones included.
        implied: Leaves that are not in the file because its kind determines them, with the reasons.
        resized: Leaves that were interpolated, with both shapes.
        reinitialised: Leaves of a new head, which keep their initial values, with the reasons.
        dropped: Tensors of the file that the model does not use, with the reasons.
        missing: Leaves that the file does not have, with the names that were looked for.
        mismatched: Leaves whose tensor in the file has another shape, with both shapes.
        unexpected: Tensors of the file that belong to no leaf.
        fields: Model fields with the values of the source's models, which a file does not contain.
        preprocessing: How images are prepared for the source's models; None: as for the variant.
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
    preprocessing: Preprocessing | None

    @property
    def problems(self) -> int:
        """Number of unexplained names: missing, mismatched and unexpected."""
        return len(self.missing) + len(self.mismatched) + len(self.unexpected)

    def error(self) -> str:
        """One line with the first unexplained names of both sides."""
        differing = [f"{ours} ({why})" for ours, why in self.mismatched.items()]
        if len(reasons := set(self.mismatched.values())) == 1 and len(differing) > 1:
            differing = [*self.mismatched][:1]  # one tensor, such as a whole file of darknet
            differing[0] += f" and {len(self.mismatched) - 1} more ({reasons.pop()})"
        sides = {
            "the model lacks": self.unexpected,
            "the file lacks": [f"{ours} ({theirs})" for ours, theirs in self.missing.items()],
            "shapes differ in": differing,
        }
        parts = [f"{what} {_first(names)}" for what, names in sides.items() if names]
        return f"{self.file} as {self.source}: {'; '.join(parts)}"

    def __str__(self) -> str:
        """A few lines for the terminal: the number of loaded leaves, then all other cases."""
        lines = [f"{self.file} ({self.source}): {len(self.loaded)} leaves loaded"]
        for what in ("implied", "resized", "reinitialised", "dropped", "missing", "mismatched"):
            for why, names in _by_reason(getattr(self, what)).items():
                lines.append(f"  {what}: {_first(names, 6)}: {why}")
        lines += [f"  {self.source} has {name}={value}" for name, value in self.fields.items()]
        return "\n".join([*lines, *(f"  unexpected: {name}" for name in self.unexpected)])


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Groups names by their reason."""
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
    """The leaves that a tensor holds, or the reason why it cannot be read."""
    try:
        return step.layout.read(tensor)
    except (ValueError, IndexError) as error:
        return f"{_shape(tensor.shape)} in the file: {error}"


def convert(
    file: str,
    family: Family,
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
        file: The file's name, for the report.
        family: The model's family: which leaves are a head, and which are positions.
        model: The model.
        name_map: The names of the file.
        leaves: The model's leaves by path, collection first.
        tensors: The checkpoint's tensors by name; they are read one at a time, so they can be lazy.
        new_head: Whether the caller gave a number of classes; a head with another number in the
            file is then no error.
        grid: Rows and columns of the file's positions, if the file stores them.
        place: Applied to each array that becomes a leaf; the array can be a view of the file.

    Returns:
        The filled leaves by path, and the report.
    """
    rules = name_map.rules(model)
    implied = {p: x for p, x in name_map.implied(model).items() if p in leaves}
    steps = plan(rules, (leaf for leaf in leaves if leaf not in implied))
    filling = _Filling(family, leaves, new_head, grid, place)
    for step in steps:
        if step.theirs not in tensors:
            filling.note_absence(step)
        else:
            filling.fill(step, _read(step, tensors[step.theirs]))
    loaded = tuple(filling.flat)
    for path, leaf in implied.items():
        filling.take(path, leaf.value)
    fields = implied_fields(name_map, model)
    reasons = dict(name_map.ignored)
    if new_head:
        heads = [entry.theirs for entry in rules if entry.ours[0].startswith(family.head)]
        heads += [f"{path}*" for path in family.head]  # the zoo's own names
        reasons |= dict.fromkeys(heads, "the caller asked for a model without this head")
    rest = sorted(tensors.keys() - {step.theirs for step in steps})
    dropped = {name: why for name in rest if (why := reason(name, reasons))}
    report = LoadReport(
        file=file,
        source=name_map.source,
        loaded=loaded,
        implied={path: leaf.why for path, leaf in implied.items()},
        resized=filling.resized,
        reinitialised=filling.reinitialised,
        dropped=dropped,
        missing=filling.missing,
        mismatched=filling.mismatched,
        unexpected=tuple(name for name in rest if name not in dropped),
        fields=dict(fields),
        preprocessing=name_map.preprocessing(model, Path(file).name),
    )
    return filling.flat, report


@dataclasses.dataclass
class _Filling:
    """The leaves that are filled so far, and what happened to the others.

    Attributes:
        family: The model's family: which leaves are a head, and which are positions.
        leaves: The model's leaves by path.
        new_head: Whether a head with another number of classes is no error.
        grid: Rows and columns of the file's positions, if the file stores them.
        place: Applied to each array that becomes a leaf.
        flat: The filled leaves by path.
        resized: As in `LoadReport`.
        reinitialised: As in `LoadReport`.
        missing: As in `LoadReport`.
        mismatched: As in `LoadReport`.
    """

    family: Family
    leaves: Mapping[str, jax.ShapeDtypeStruct]
    new_head: bool
    grid: tuple[int, int] | None
    place: Callable[[np.ndarray], Any]
    flat: dict[str, Any] = dataclasses.field(default_factory=dict)
    resized: dict[str, str] = dataclasses.field(default_factory=dict)
    reinitialised: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    mismatched: dict[str, str] = dataclasses.field(default_factory=dict)

    def starts_anew(self, path: str) -> bool:
        """Whether a leaf belongs to a head that may be initialised anew."""
        return self.new_head and path.startswith(self.family.head)

    def note_absence(self, step: Rule) -> None:
        """Notes the leaves of a tensor that the file does not have."""
        lack = self.reinitialised if self.starts_anew(step.ours[0]) else self.missing
        lack.update(dict.fromkeys(step.ours, step.theirs))

    def fill(self, step: Rule, arrays: tuple[np.ndarray, ...] | str) -> None:
        """Fills the leaves that a tensor holds, or notes why the tensor cannot be read."""
        if isinstance(arrays, str):
            self.mismatched.update(dict.fromkeys(step.ours, arrays))
            return
        for path, array in zip(step.ours, arrays, strict=True):
            self.take(path, array)

    def take(self, path: str, array: np.ndarray) -> None:
        """Fills a leaf, resizing positions if needed, or notes why the array does not fit."""
        want = self.leaves[path].shape
        if path.rpartition("/")[2] in self.family.positions:
            try:
                array = as_grid(array, self.grid, want[:2]) if array.ndim == 2 else array
            except ValueError as error:
                self.mismatched[path] = str(error)
                return
            if array.shape != want and array.shape[2:] == want[2:]:
                self.resized[path] = _change(array.shape, want)
                resized = resize_positions(jnp.asarray(array, jnp.float32), want[:2])
                array = np.asarray(resized)
        if array.shape == want:
            self.flat[path] = self.place(array)
        elif self.starts_anew(path):
            self.reinitialised[path] = _change(array.shape, want)
        else:
            self.mismatched[path] = _change(array.shape, want)


def _change(file: tuple[int, ...], model: tuple[int, ...]) -> str:
    return f"{_shape(file)} in the file, {_shape(model)} in the model"
