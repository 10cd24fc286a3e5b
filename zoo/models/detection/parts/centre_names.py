"""Names of CenterNet's authors, of all three tasks.

Their networks take images with the channels blue, green and red. We always take red, green and
blue: the first convolution's weights are reordered.
"""

from collections.abc import Mapping
from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.models.detection.parts.hourglass_names import authors_hourglass, map_head
from zoo.models.detection.parts.object_names import DECONV
from zoo.weights.maps import BATCH_COUNTERS, CONV_OF_BGR, batch_norm, biased_conv, conv, rule

_UNUSED = {
    "base.fc.*": "the classifier of the backbone's pretraining",
    **{
        f"base.level{i}.project.*": "a projection whose result the authors' trees do not use"
        for i in (3, 4)
    },
}
_HEADS = {
    "heat_logits": "hm",
    "sizes": "wh",
    "offsets": "reg",
    "joints": "hps",
    "joint_heat_logits": "hm_hp",
    "joint_offsets": "hp_offset",
    "depth_logits": "dep",
    "rotations": "rot",
    "dimensions": "dim",
}


def authors(model: Any) -> tuple[Rule, ...]:
    """Rules for the authors' ``resdcn_*``, ``dla_34`` and ``hourglass``."""
    if model.trunk != "hourglass":
        return (*_TRUNKS[model.trunk](model), *head_rules(model, "{}", _HEADS))
    rules = list(authors_hourglass(model.make_trunk(), "net"))
    for ours in model.output_dims:
        rules += map_head(f"{_HEADS[ours]}.{{s}}", f"head_{{s}}/{ours}")
    return tuple(rules)


def _deconv_trunk(model: Any) -> tuple[Rule, ...]:
    """Rules for the authors' `PoseResNet` with deformable convolutions."""
    rules = list(_of_bgr(backbone_rules(model.make_body(), "torchvision", "")))
    for i in range(len(model.make_trunk().dims)):
        rules += conv_rules(f"deconv_layers.{6 * i}", f"up_{i}/conv", "conv_offset_mask")
        rules += batch_norm(f"deconv_layers.{6 * i + 1}", f"up_{i}/norm")
        rules += deconv_rule(f"deconv_layers.{6 * i + 3}", f"up_{i}_deconv")
        rules += batch_norm(f"deconv_layers.{6 * i + 4}", f"up_{i}_norm")
    return tuple(rules)


def _dla_trunk(model: Any) -> tuple[Rule, ...]:
    """Rules for the authors' `DLASeg`."""
    body, first = model.make_body(), model.make_trunk().first
    rules = list(_of_bgr(backbone_rules(body, "timm", "base.")))
    merges = {f"dla_up.ida_{i}": f"dla_up_{i}" for i in range(len(body.depths) - first - 1)}
    for theirs, ours in {**merges, "ida_up": "ida_up"}.items():
        for part in ("proj", "node"):
            name, block = f"{theirs}.{part}_{{i}}", f"{ours}/{part}_{{i}}"
            rules += conv_rules(f"{name}.conv", f"{block}/conv", "conv_offset_mask")
            rules += batch_norm(f"{name}.actf.0", f"{block}/norm")
        rules += conv(f"{theirs}.up_{{i}}", f"{ours}/up_{{i}}")
    return tuple(rules)


_TRUNKS = {"deconv": _deconv_trunk, "dla": _dla_trunk}


def _of_bgr(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The rules of a backbone of images whose channels are blue, green and red."""
    stem = ("params/body/stem_conv/kernel",)
    return tuple(r._replace(layout=CONV_OF_BGR) if r.ours == stem else r for r in rules)


def conv_rules(theirs: str, ours: str, offsets: str) -> tuple[Rule, ...]:
    """Rules for a convolution, deformable or not."""
    return (*biased_conv(theirs, ours), *biased_conv(f"{theirs}.{offsets}", f"{ours}/offsets"))


def deconv_rule(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rule for a transposed convolution without bias."""
    return (rule(f"{theirs}.weight", f"{ours}/kernel", layout=DECONV),)


def head_rules(model: Any, theirs: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for the heads of the first stack."""
    rules: list[Rule] = []
    for ours in model.output_dims:
        head = theirs.format(names[ours])
        rules += biased_conv(f"{head}.0", f"head_0/{ours}/hidden")
        rules += biased_conv(f"{head}.2", f"head_0/{ours}/out")
    return tuple(rules)


AUTHORS = NameMap("centernet", authors, {**BATCH_COUNTERS, **_UNUSED})
