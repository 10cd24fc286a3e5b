"""Mask R-CNN: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.mask_rcnn.decode import decode
from zoo.models.detection.mask_rcnn.loss import MaskRCNNLoss
from zoo.models.detection.mask_rcnn.model import MaskRCNN
from zoo.models.detection.mask_rcnn.names import NAMES
from zoo.models.detection.parts.variants import NANO, V2
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)
_NANO = {
    **NANO,
    "decoding_fields": FrozenDict({"most": 20}),
    "mask_conv_dims": (48, 48),
    "mask_dim": 48,
}


def _variant(parity: str | None = None, **fields: Any) -> Variant:
    return Variant(fields, Preprocessing((800, 1333), interpolation="bilinear"), parity=parity)


_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "maskrcnn_nano": Variant(_NANO, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")),
    "maskrcnn_resnet50_fpn": _variant(),
    "maskrcnn_resnet50_fpn_v2": _variant(**V2, mask_norm="batch"),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid."""
    return (*backbone_layers(model.make_body()), ("pyramid",))


FAMILY = Family(
    title="Mask R-CNN",
    summary="R50 with FPN, its version 2",
    module=MaskRCNN,
    task="detection",
    paper="1703.06870",
    reference="torchvision, detectron2",
    inputs=padded_images,
    names=NAMES,
    loss=MaskRCNNLoss,
    decode=decode,
    layers=_layers,
    head=("params/box/predictor/", "params/mask/head/logits/"),
    constant=("anchors", "proposals", "detections"),
    chosen=("proposals", "class_logits", "box_deltas", "detections", "mask_logits"),
    variants=_VARIANTS,
)
