"""U-Net: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.inputs import images
from zoo.models.segmentation.parts.loss import PixelLoss
from zoo.models.segmentation.unet.model import UNet
from zoo.types import Preprocessing


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The contracting path, then the steps of the expanding one."""
    ups = [(f"upsample_{i}", f"up_{i}") for i in reversed(range(model.depth))]
    return (*((f"down_{i}",) for i in range(model.depth + 1)), *ups)


_SAME = {"padding": "same", "norm": "batch"}

FAMILY = Family(
    title="U-Net",
    summary="the paper's; `unet_same`: padded, with batch norm",
    module=UNet,
    task="segmentation",
    paper="1505.04597",
    reference="the paper",
    inputs=images,
    loss=PixelLoss,
    layers=_layers,
    variants={
        "unet": Variant(
            {},
            Preprocessing((572, 572), crop_fraction=1.0),
            parity="6e-7, own definition in torch",
        ),
        # Not from the paper, but as in most reimplementations.
        "unet_same": Variant(
            _SAME,
            Preprocessing((512, 512), crop_fraction=1.0),
            parity="7e-7, own definition in torch",
        ),
        # For tests, demos and small images.
        "unet_nano": Variant(
            {**_SAME, "depth": 2, "base_dim": 32}, Preprocessing((64, 64), crop_fraction=1.0)
        ),
    },
)
