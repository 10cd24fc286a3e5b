"""U-Net on a backbone: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.inputs import images
from zoo.models.segmentation.backbone_unet.model import BackboneUNet
from zoo.models.segmentation.backbone_unet.names import NAMES
from zoo.models.segmentation.parts.loss import PixelLoss
from zoo.types import Preprocessing


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the decoder's."""
    decoder = ((f"decoder_{i}",) for i in range(len(model.decoder_dims)))
    return (*backbone_layers(model.make_body()), *decoder)


def _preprocessing(size: int) -> Preprocessing:
    return Preprocessing((size, size), crop_fraction=1.0)


FAMILY = Family(
    title="U-Net on a backbone",
    summary="on ResNets",
    module=BackboneUNet,
    task="segmentation",
    paper="1505.04597",
    reference="segmentation_models_pytorch",
    inputs=images,
    names=NAMES,
    loss=PixelLoss,
    layers=_layers,
    variants={
        # For tests, demos and small images.
        "unet_resnet_nano": Variant(
            {"backbone": "resnet_nano", "decoder_dims": (64, 32, 32, 16, 16)}, _preprocessing(64)
        ),
        "unet_resnet34": Variant(
            {"backbone": "resnet34"},
            _preprocessing(512),
            parity="3e-6, segmentation_models_pytorch",
        ),
        "unet_resnet50": Variant({"backbone": "resnet50"}, _preprocessing(512)),
    },
)
