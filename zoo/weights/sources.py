"""Which source's names a file has."""

from collections.abc import Mapping

from flax import linen as nn

from zoo.types import InputError
from zoo.weights import (
    big_vision,
    fair,
    huggingface,
    marian,
    own,
    smp,
    timm,
    torch,
    torchvision,
)
from zoo.weights.maps import NameMap, plan, reason

# By source and family; of two sources that fit a file equally well the first is taken.
SOURCES = {
    "timm": timm.MAPS,
    "torchvision": torchvision.MAPS,
    "huggingface": {**huggingface.MAPS, **marian.MAPS},
    "fair": fair.MAPS,
    "torch": torch.MAPS,
    "big_vision": big_vision.MAPS,
    "smp": smp.MAPS,
}


def name_maps(model: nn.Module, source: str | None = None) -> tuple[NameMap, ...]:
    """The name maps for a model, of one source or of all.

    Raises:
        InputError: If there is no such source, or it has no such model.
    """
    family = type(model).__name__
    known = {"zoo": (own.ZOO, *own.MAPS.get(family, ()))}
    known |= {source: maps[family] for source, maps in SOURCES.items() if family in maps}
    if source is None:
        return tuple(name_map for maps in known.values() for name_map in maps)
    if source not in known:
        raise InputError(f"no source {source!r} for {family}; there are {', '.join(known)}")
    return known[source]


def best_map(
    model: nn.Module, leaves: Mapping[str, object], names: set[str], source: str | None = None
) -> NameMap:
    """The name map whose names for the model's leaves differ least from a file's names.

    Names that a map explains without a leaf are no difference.
    """

    def difference(name_map: NameMap) -> int:
        implied = name_map.implied(model)
        looked_for = (leaf for leaf in leaves if leaf not in implied)
        try:
            theirs = {step.theirs for step in plan(name_map.rules(model), looked_for)}
        except ValueError:  # it has no name for some leaf of this model
            return len(names) + len(leaves)
        explained = {name for name in names - theirs if reason(name, name_map.ignored)}
        return len((names - explained) ^ theirs)

    return min(name_maps(model, source), key=difference)
