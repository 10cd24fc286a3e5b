"""Finds out which source's names a file has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.family import Family, NameMap
from zoo.types import InputError
from zoo.weights.maps import ZOO, pattern, plan, reason
from zoo.weights.wrappers import holders, split_names


def name_maps(family: Family, source: str | None = None) -> tuple[NameMap, ...]:
    """The name maps of a family: those of one source, or all.

    Raises:
        InputError: If there is no such source, or it has no names for this family.
    """
    maps = (ZOO, *family.names)
    found = tuple(name_map for name_map in maps if source in (None, name_map.source))
    if not found:
        known = dict.fromkeys(name_map.source for name_map in maps)
        raise InputError(f"no source {source!r} for {family.title}; there are {', '.join(known)}")
    return found


class Fit(NamedTuple):
    """The name map that fits a file best.

    Attributes:
        name_map: The name map.
        prefix: The beginning of the names of the model's tensors: see `zoo.weights.wrappers`.
        theirs: The names of the model's tensors, without the prefix.
    """

    name_map: NameMap
    prefix: str
    theirs: frozenset[str]


def best_map(
    family: Family,
    model: Any,
    leaves: Mapping[str, object],
    names: set[str],
    source: str | None = None,
) -> Fit:
    """The name map whose names for the model's leaves differ least from a file's names.

    Names that the map's `ignored` patterns explain do not count as differences. If the file's names
    for most of the leaves have a prefix, names without the prefix do not count either.
    """

    def difference(fit: Fit) -> int:
        inside, outside = split_names(names, fit.prefix)
        if not fit.theirs or (fit.prefix and 2 * len(inside & fit.theirs) <= len(fit.theirs)):
            return len(names) + len(leaves)
        left = (name for name in inside - fit.theirs if not reason(name, fit.name_map.ignored))
        return len(fit.theirs - inside - outside) + sum(1 for _ in left)

    named = [(name_map, _theirs(name_map, model, leaves)) for name_map in name_maps(family, source)]
    fits = [
        Fit(name_map, prefix, theirs) for prefix in holders(names) for name_map, theirs in named
    ]
    return min(fits, key=difference)


def _theirs(name_map: NameMap, model: Any, leaves: Mapping[str, object]) -> frozenset[str]:
    """A map's names for the leaves that are looked for; none if it lacks a name for one."""
    implied = name_map.implied(model)
    try:
        steps = plan(name_map.rules(model), (leaf for leaf in leaves if leaf not in implied))
    except ValueError:
        return frozenset()
    return frozenset(step.theirs for step in steps)


def resembles(family: Family, model: Any, names: set[str]) -> bool:
    """Whether one of the family's name maps has a rule for at least half of a file's names.

    It is much cheaper than `best_map`, because no leaf of the model is needed.
    """
    without_prefix = [split_names(names, prefix)[0] for prefix in holders(names)]
    for name_map in family.names:
        patterns = [pattern(rule.theirs) for rule in name_map.rules(model)]
        for inside in without_prefix:
            known = sum(any(p.fullmatch(name) for p in patterns) for name in inside)
            if 2 * known >= len(names):
                return True
    return False
