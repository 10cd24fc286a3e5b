"""Names of ExtremeNet's authors."""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.extremenet.decode import EXTREMES, POINTS
from zoo.models.detection.parts.hourglass_names import authors_hourglass, map_head
from zoo.weights.maps import BATCH_COUNTERS

_SHORT = dict(zip(POINTS, ("t", "l", "b", "r", "ct"), strict=True))


def authors(model: Any) -> tuple[Rule, ...]:
    """``ExtremeNet_250000.pkl``, whose names begin with ``module.``."""
    rules = list(authors_hourglass(model.make_trunk()))
    for name in POINTS:
        rules += map_head(f"{_SHORT[name]}_heats.{{s}}", f"heads_{{s}}/heat_{name}")
    for name in EXTREMES:
        rules += map_head(f"{_SHORT[name]}_regrs.{{s}}", f"heads_{{s}}/offset_{name}")
    return tuple(rules)


NAMES = (NameMap("extremenet", authors, BATCH_COUNTERS),)
