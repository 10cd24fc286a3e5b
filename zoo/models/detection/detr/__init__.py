"""DETR: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.detr.decode import decode
from zoo.models.detection.detr.loss import DetrLoss
from zoo.models.detection.detr.model import Detr
from zoo.models.detection.detr.names import NAMES
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing


def _variant(parity: str | None = None, **fields: Any) -> Variant:
    return Variant(fields, Preprocessing((800, 1333), interpolation="bilinear"), parity=parity)


_DC5 = FrozenDict({"dilated_stages": 1})
_HALF = (0.5, 0.5, 0.5)
_NANO = {
    "num_queries": 20,
    "backbone": "resnet_nano",
    "backbone_fields": FrozenDict(
        {"num_blocks": (2, 2), "stage_dims": (48, 96), "stem_dim": 48, "norm": "batch"}
    ),
    "hidden_dim": 128,
    "num_heads": 8,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "mlp_dim": 256,
    "dropout": 0.0,
    "pre_norm": True,
    "temperature": 20.0,
}

_VARIANTS = {
    # Not from the paper: for tests, demos and small images.
    "detr_nano": Variant(_NANO, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")),
    "detr_resnet50": _variant("1e-6, authors' code and Hugging Face"),
    "detr_resnet50_dc5": _variant("1e-6, Hugging Face", backbone_fields=_DC5),
    "detr_resnet50_panoptic": _variant("4e-6, Hugging Face", num_classes=250, masks=True),
    "detr_resnet101": _variant(backbone="resnet101"),
    "detr_resnet101_dc5": _variant(backbone="resnet101", backbone_fields=_DC5),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the encoder's and the decoder's."""
    return (
        *backbone_layers(model.make_body()),
        ("input_proj",),
        *((f"encoder_{i}",) for i in range(model.num_encoder_layers)),
        *((f"decoder_{i}",) for i in range(model.num_decoder_layers)),
    )


FAMILY = Family(
    title="DETR",
    summary="R50, R101, DC5, panoptic",
    module=Detr,
    task="detection",
    paper="2005.12872",
    reference="facebookresearch/detr",
    inputs=padded_images,
    names=NAMES,
    loss=DetrLoss,
    decode=decode,
    layers=_layers,
    learns=lambda model: ("masks",) if model.masks else (),
    # The decoder's input is zeros, so this scale is multiplied by zeros in the first step.
    without_gradient=("params/decoder_0/norm1/scale",),
    variants=_VARIANTS,
)
