"""Names of timm and torchvision for MobileNetV3.

In timm a stage is a run of blocks with equally many features. In torchvision the blocks are
numbered from 1, and the layers of a block from 0, whichever it has; its detectors have the names of
the classifiers' ``features``, without this word.
"""

from functools import partial
from itertools import groupby

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.types import Preprocessing
from zoo.weights.maps import BATCH_COUNTERS, batch_norm, conv, dense, pointwise


def timm(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `MobileNetV3`."""
    stages = groupby(range(len(model.block_dims)), key=lambda i: model.block_dims[i])
    rules: list[Rule] = []
    count = 0
    for _, blocks in stages:
        for j, i in enumerate(blocks):
            theirs, ours = f"blocks.{count}.{j}", f"blocks_{i}"
            parts = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
            if not _expands(model, i):
                parts = {"conv_dw": "depthwise", "conv_pw": "project"}
            for k, (name, part) in enumerate(parts.items(), start=1):
                rules += conv(f"{theirs}.{name}", f"{ours}/{part}_conv")
                rules += batch_norm(f"{theirs}.bn{k}", f"{ours}/{part}_norm")
            rules += pointwise(f"{theirs}.se.conv_reduce", f"{ours}/squeeze/reduce")
            rules += pointwise(f"{theirs}.se.conv_expand", f"{ours}/squeeze/expand")
        count += 1
    return (
        *conv("conv_stem", "stem_conv"),
        *batch_norm("bn1", "stem_norm"),
        *rules,
        *conv(f"blocks.{count}.0.conv", "last_conv"),
        *batch_norm(f"blocks.{count}.0.bn1", "last_norm"),
        *pointwise("conv_head", "hidden"),
        *dense("classifier", "head"),
    )


def torchvision(model: nn.Module, *, prefix: str) -> tuple[Rule, ...]:
    """Rules for `MobileNetV3`; the prefix is ``features.``, in detectors empty."""

    def layer(theirs: str, ours: str) -> tuple[Rule, ...]:
        return (
            *conv(f"{prefix}{theirs}.0", f"{ours}_conv"),
            *batch_norm(f"{prefix}{theirs}.1", f"{ours}_norm"),
        )

    count = len(model.block_dims)
    rules: list[Rule] = []
    for i in range(count):
        parts = ["depthwise", "squeeze", "project"]
        if i not in model.squeeze_blocks:
            parts.remove("squeeze")
        if _expands(model, i):
            parts.insert(0, "expand")
        for k, part in enumerate(parts):
            theirs, ours = f"{i + 1}.block.{k}", f"blocks_{i}/{part}"
            if part == "squeeze":
                rules += pointwise(f"{prefix}{theirs}.fc1", f"{ours}/reduce")
                rules += pointwise(f"{prefix}{theirs}.fc2", f"{ours}/expand")
            else:
                rules += layer(theirs, ours)
    return (
        *layer("0", "stem"),
        *rules,
        *layer(f"{count + 1}", "last"),
        *dense("classifier.0", "hidden"),
        *dense("classifier.3", "head"),
    )


def _expands(model: nn.Module, block: int) -> bool:
    """Whether a block begins with a convolution to more features."""
    before = (model.stem_dim, *model.block_dims)
    return model.expanded_dims[block] != before[block]


def _torchvision(model: nn.Module, file: str) -> Preprocessing:
    """The transforms of torchvision's weights: version 1, unless the file's name says 2."""
    resized = 232 if "5c1a4163" in file else 256
    return Preprocessing((224, 224), interpolation="bilinear", crop_fraction=224 / resized)


NAMES = (
    NameMap("timm", timm, BATCH_COUNTERS),
    *(
        NameMap(
            "torchvision",
            partial(torchvision, prefix=prefix),
            BATCH_COUNTERS,
            {"norm_epsilon": 1e-3},  # their detectors have 1e-5
            preprocessing=_torchvision,
            wrapped=bool(prefix),
        )
        for prefix in ("features.", "")
    ),
)
