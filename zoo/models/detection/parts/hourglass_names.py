"""Other projects' names for a `StackedHourglass`: those of CornerNet's authors, and mmdet's.

The authors' names are also those of the hourglass in the code of CenterNet and ExtremeNet. Their
networks take images in the order blue, green, red; ours take red, green, blue.
"""

from collections.abc import Mapping
from typing import NamedTuple

from zoo.family import Layout, Rule
from zoo.layers.hourglass import StackedHourglass
from zoo.types import Preprocessing
from zoo.weights.maps import CONV, CONV_OF_BGR, batch_norm, biased_conv, conv

AUTHORS_MEAN = (0.47026115, 0.44719302, 0.40789654)
AUTHORS_STD = (0.27809835, 0.27408164, 0.28863828)


class BlockNames(NamedTuple):
    """Names of the layers of a residual block, and of a convolution with a norm.

    Attributes:
        block: Ours -> theirs, for convolution and norm.
        shortcut: The convolution and norm of the projected residual.
        layer: Of a convolution with a norm.
    """

    block: Mapping[str, tuple[str, str]]
    shortcut: tuple[str, str]
    layer: tuple[str, str] = ("conv", "bn")


_BLOCK = {"first": ("conv1", "bn1"), "second": ("conv2", "bn2")}
_AUTHORS = BlockNames(_BLOCK, ("skip.0", "skip.1"))
_MMDET = BlockNames(_BLOCK, ("downsample.0", "downsample.1"))


def conv_norm(
    theirs: str, ours: str, names: tuple[str, str] = ("conv", "bn"), layout: Layout = CONV
) -> tuple[Rule, ...]:
    """Rules for a `ConvNorm`.

    Args:
        theirs: What precedes their names of the convolution and the norm, with the dot.
        ours: Its path.
        names: These names.
        layout: Of the convolution.
    """
    return (
        *conv(f"{theirs}{names[0]}", f"{ours}/conv", layout),
        *batch_norm(f"{theirs}{names[1]}", f"{ours}/norm"),
    )


def _residual(theirs: str, ours: str, names: BlockNames) -> list[Rule]:
    """Rules for a `ResidualBlock`."""
    parts = {**names.block, "shortcut": names.shortcut}
    found = [conv_norm(f"{theirs}.", f"{ours}/{part}", parts[part]) for part in parts]
    return [rule for rules in found for rule in rules]


def _levels(theirs: str, ours: str, depth: int, names: BlockNames) -> list[Rule]:
    """Rules for a `Hourglass`, which is nested in their code."""
    rules: list[Rule] = []
    for level in range(depth):
        module = theirs + ".low2" * level
        for part, name in (("up1", "skip"), ("low1", "down"), ("low3", "up")):
            rules += _residual(f"{module}.{part}.{{j}}", f"{ours}/{name}_{level}_{{j}}", names)
    rules += _residual(f"{theirs}{'.low2' * depth}.{{j}}", f"{ours}/middle_{{j}}", names)
    return rules


def authors_hourglass(trunk: StackedHourglass, ours: str = "trunk") -> tuple[Rule, ...]:
    """Rules of CornerNet's, CenterNet's and ExtremeNet's authors.

    Args:
        trunk: The model's hourglass.
        ours: Its path.
    """
    depth = len(trunk.dims) - 1
    return (
        *conv_norm("pre.0.", f"{ours}/stem", layout=CONV_OF_BGR),
        *_residual("pre.1", f"{ours}/stem_block", _AUTHORS),
        *_levels("kps.{s}", f"{ours}/hourglass_{{s}}", depth, _AUTHORS),
        *conv_norm("cnvs.{s}.", f"{ours}/out_{{s}}"),
        *conv_norm("inters_.{s}.", f"{ours}/before_{{s}}", ("0", "1")),
        *conv_norm("cnvs_.{s}.", f"{ours}/after_{{s}}", ("0", "1")),
        *_residual("inters.{s}", f"{ours}/between_{{s}}", _AUTHORS),
    )


def mmdet_hourglass(trunk: StackedHourglass, ours: str = "trunk") -> tuple[Rule, ...]:
    """Rules of mmdet, whose networks take images in the order red, green, blue.

    Args:
        trunk: The model's hourglass.
        ours: Its path.
    """
    depth = len(trunk.dims) - 1
    return (
        *conv_norm("backbone.stem.0.", f"{ours}/stem"),
        *_residual("backbone.stem.1.0", f"{ours}/stem_block", _MMDET),
        *_levels("backbone.hourglass_modules.{s}", f"{ours}/hourglass_{{s}}", depth, _MMDET),
        *conv_norm("backbone.out_convs.{s}.", f"{ours}/out_{{s}}"),
        *conv_norm("backbone.conv1x1s.{s}.", f"{ours}/before_{{s}}"),
        *conv_norm("backbone.remap_convs.{s}.", f"{ours}/after_{{s}}"),
        *_residual("backbone.inters.{s}", f"{ours}/between_{{s}}", _MMDET),
    )


def map_head(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules of the authors for a `MapHead`."""
    return (
        *biased_conv(f"{theirs}.0.conv", f"{ours}/hidden"),
        *biased_conv(f"{theirs}.1", f"{ours}/out"),
    )


def hourglass_layers(trunk: StackedHourglass, ours: str = "trunk") -> tuple[tuple[str, ...], ...]:
    """The order of the layers: see `zoo.family.Family.layers`.

    Each level of each hourglass is a layer on the way to coarser maps, and one on the way back.

    Args:
        trunk: The model's hourglass.
        ours: Its path.
    """
    depth = len(trunk.dims) - 1
    groups: list[tuple[str, ...]] = [("stem", "stem_block")]
    for s in range(trunk.num_stacks):
        blocks = [[f"hourglass_{s}/middle_{j}" for j in range(trunk.num_blocks[-1])]]
        for level in reversed(range(depth)):
            count = range(trunk.num_blocks[level])
            kinds = ("skip", "down"), ("up",)
            before, after = (
                [f"hourglass_{s}/{kind}_{level}_{j}" for kind in kind_s for j in count]
                for kind_s in kinds
            )
            blocks = [before, *blocks, after]
        groups += [tuple(block) for block in blocks]
        groups.append((f"out_{s}",))
        if s < trunk.num_stacks - 1:
            groups.append(tuple(f"{name}_{s}" for name in ("before", "after", "between")))
    return tuple(tuple(f"{ours}/{name}" for name in group) for group in groups)


def authors_preprocessing(size: tuple[int, int]) -> Preprocessing:
    """The authors' mean and standard deviation, for images of these shorter and longer sides."""
    return Preprocessing(size, AUTHORS_MEAN, AUTHORS_STD, interpolation="bilinear")
