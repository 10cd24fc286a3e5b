"""DLA's names: timm, whose files are the authors' (``dla34-ba72cf86.pth``)."""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.weights.maps import BATCH_COUNTERS, batch_norm, conv, pointwise


def timm(model: Any) -> tuple[Rule, ...]:
    """Rules for `DLA` with basic blocks."""
    rules = [*conv("base_layer.0", "stem_conv"), *batch_norm("base_layer.1", "stem_norm")]
    for i, depth in enumerate(model.depths):
        if i >= 2:
            rules += _tree(f"level{i}", f"levels_{i}", depth)
            continue
        for j in range(depth):
            rules += conv(f"level{i}.{3 * j}", f"levels_{i}_conv_{j}")
            rules += batch_norm(f"level{i}.{3 * j + 1}", f"levels_{i}_norm_{j}")
    return (*rules, *pointwise("fc", "head"))


def _tree(theirs: str, ours: str, depth: int) -> list[Rule]:
    """Rules for a `DlaTree`."""
    rules: list[Rule] = []
    if depth > 1:
        for part in ("tree1", "tree2"):
            rules += _tree(f"{theirs}.{part}", f"{ours}/{part}", depth - 1)
        return rules
    for part in ("tree1", "tree2"):
        for k in (1, 2):
            rules += conv(f"{theirs}.{part}.conv{k}", f"{ours}/{part}/conv{k}")
            rules += batch_norm(f"{theirs}.{part}.bn{k}", f"{ours}/{part}/norm{k}")
    return [
        *rules,
        *conv(f"{theirs}.project.0", f"{ours}/shortcut_conv"),
        *batch_norm(f"{theirs}.project.1", f"{ours}/shortcut_norm"),
        *conv(f"{theirs}.root.conv", f"{ours}/root_conv"),
        *batch_norm(f"{theirs}.root.bn", f"{ours}/root_norm"),
    ]


# In the authors' files; of the deeper trees of DLA-34.
UNUSED = {
    f"*level{i}.project.*": "a projection whose result the authors' trees do not use"
    for i in (3, 4)
}

NAMES = (NameMap("timm", timm, {**BATCH_COUNTERS, **UNUSED}),)
