"""The named models of two-stage detectors: what several families have in common."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Variant
from zoo.models.backbones import backbone_layers
from zoo.types import IMAGENET_STD, SCENE_SEARCH, Preprocessing, ProposalSearch

_HALF = (0.5, 0.5, 0.5)
PIXELS = (1 / 255, 1 / 255, 1 / 255)
"""The `std` of models that take pixels of 0..255 less the mean."""

# torchvision's second version: arXiv 2111.11429.
V2 = {
    "backbone_fields": FrozenDict({"norm": "batch"}),
    "pyramid_norm": "batch",
    "rpn_convs": 2,
    "box_conv_dims": (256, 256, 256, 256),
    "box_dims": (1024,),
    "box_norm": "batch",
}
# detectron2's: the first three stages of the ResNet, without a pyramid.
C4 = {
    "num_classes": 80,
    "neck": "none",
    "anchor_fields": FrozenDict(
        {"sizes": ((32, 64, 128, 256, 512),), "strides": (16,), "order": "size"}
    ),
    "proposal_fields": FrozenDict(
        {"train_candidates": 12_000, "candidates": 6_000, "train_kept": 2_000, "min_size": 0.0}
    ),
    "pooling_fields": FrozenDict({"size": 14, "sampling_ratio": 0, "aligned": True}),
}
# Objects of 8 to 28 px in images of 64 px: every number of pixels is smaller in proportion.
NANO = {
    "backbone": "resnet_nano",
    "backbone_fields": FrozenDict(
        {"num_blocks": (2, 2), "stage_dims": (48, 96), "stem_dim": 48, "norm": "batch"}
    ),
    "pyramid_dim": 64,
    "anchor_fields": FrozenDict(
        {"sizes": ((8, 11), (14, 18), (22, 28)), "ratios": (1.0, 1.5, 2.2), "strides": (4, 8, 16)}
    ),
    "proposal_fields": FrozenDict(
        {"candidates": 128, "kept": 64, "train_candidates": 128, "train_kept": 64}
    ),
    "anchor_sampling": FrozenDict({"num": 64}),
    "roi_sampling": FrozenDict({"num": 32}),
    "pooling_fields": FrozenDict({"canonical_size": 16, "canonical_level": 3}),
    "box_dims": (256, 256),
}
# The same, on the map of stride 8 of a network of three stages.
NANO_C4 = {
    **NANO,
    "neck": "none",
    "backbone_fields": FrozenDict(
        {"num_blocks": (1, 2, 1), "stage_dims": (48, 64, 96), "stem_dim": 48, "norm": "batch"}
    ),
    "anchor_fields": FrozenDict(
        {"sizes": ((8, 11, 14, 18, 22, 28),), "ratios": (1.0, 1.5, 2.2), "strides": (8,)}
    ),
    "pooling_fields": FrozenDict({"size": 8, "aligned": True}),
}

# One small hourglass, whose maps have cells of 4 px.
NANO_HOURGLASS = FrozenDict(
    {"dims": (64, 96, 128), "num_blocks": (1, 1, 1), "num_stacks": 1, "out_dim": 64}
)

# For detectors that are given regions; a scene has about as many proposals.
NANO_WINDOWS = FrozenDict(
    {"sizes": ((14, 24),), "ratios": (1.5,), "strides": (9,), "offset": 0.5, "order": "size"}
)


def variant(
    size: tuple[int, int] = (800, 1333),
    parity: str | None = None,
    paper: str | None = None,
    std: tuple[float, float, float] = IMAGENET_STD,
    **fields: Any,
) -> Variant:
    """A model for COCO's images, resized to these shorter and longer sides."""
    how = Preprocessing(size, std=std, interpolation="bilinear")
    return Variant(fields, how, parity=parity, paper=paper)


def nano_variant(**fields: Any) -> Variant:
    """A model for images of 64 px: `NANO` and more fields."""
    return scene_variant(**{**NANO, **fields})


def scene_variant(**fields: Any) -> Variant:
    """A model for images of 64 px, with these fields only."""
    return Variant(fields, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear"))


def proposing_nano(**fields: Any) -> Variant:
    """A model for images of 64 px that is given the proposals of selective search."""
    how = Preprocessing((64, 64), _HALF, _HALF, "bilinear", proposals=SCENE_SEARCH)
    return Variant({"backbone": "resnet_nano", "window_fields": NANO_WINDOWS, **fields}, how)


def proposing_variant(
    size: tuple[int, int] = (600, 1000), paper: str | None = None, **fields: Any
) -> Variant:
    """A model for images of these shorter and longer sides that is given proposals."""
    how = Preprocessing(size, interpolation="bilinear", proposals=ProposalSearch())
    return Variant(fields, how, paper=paper)


def rcnn_layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid or the backbone's last stage.

    See `zoo.family.Family.layers`.
    """
    return (*backbone_layers(model.make_body()), ("pyramid", "box/stage"))


# Maps of stride 4 and 8, without coarser ones.
DENSE_NANO = {
    "backbone": "resnet_nano",
    "backbone_fields": NANO["backbone_fields"],
    "finest_stride": 4,
    "pyramid_dim": 64,
    "num_extra": 0,
    "num_convs": 2,
    "head_norm": "group",
}


def dense_nano(**fields: Any) -> Variant:
    """A dense detector for images of 64 px: `DENSE_NANO` and more fields."""
    decoding = FrozenDict({"candidates": 200, "most": 100, **fields.pop("decoding_fields", {})})
    how = Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")
    return Variant({**DENSE_NANO, "decoding_fields": decoding, **fields}, how)


def dense_layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid: see `zoo.family.Family.layers`."""
    return (*backbone_layers(model.make_body()), ("pyramid",))
