"""ResNet: see `model`."""

from functools import partial
from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.resnet.model import ResNet
from zoo.models.classification.resnet.names import NAMES
from zoo.models.inputs import images
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing


def _variant(
    num_blocks: tuple[int, ...],
    image_size: int = 224,
    *,
    crop_fraction: float = 0.95,
    interpolation: Interpolation = "bicubic",
    paper: str | None = None,
    parity: str | None = None,
    **fields: object,
) -> Variant:
    size = (image_size, image_size)
    # timm's crop and interpolation; torchvision's first weights used 0.875 and bilinear.
    preprocessing = Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, interpolation, crop_fraction)
    sizes = {"num_blocks": num_blocks, **fields}
    return Variant(sizes, preprocessing, paper=paper, parity=parity)


_resnext = partial(_variant, paper="1611.05431", num_groups=32)

# Blocks of each stage: arXiv 1512.03385, table 1.
_VARIANTS = {
    # Not from the paper: for tests, demos and small images.
    "resnet_nano": _variant((1, 1, 1, 1), 64, block="basic", stage_dims=(16, 32, 64, 128)),
    "resnet18": _variant((2, 2, 2, 2), block="basic"),
    "resnet34": _variant((3, 4, 6, 3), block="basic"),
    "resnet50": _variant((3, 4, 6, 3), parity="8e-7"),
    "resnet50_gn": _variant(
        (3, 4, 6, 3), norm="group", crop_fraction=0.94, paper="1803.08494", parity="9e-7"
    ),
    "resnet101": _variant((3, 4, 23, 3), parity="9e-7, torchvision"),
    "resnet152": _variant((3, 8, 36, 3)),
    "resnext50_32x4d": _resnext((3, 4, 6, 3), group_dim=4, parity="5e-7"),
    "resnext101_32x8d": _resnext(
        (3, 4, 23, 3), group_dim=8, interpolation="bilinear", crop_fraction=0.875
    ),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The stem, then each block."""
    blocks = [f"stages_{i}_{j}" for i, depth in enumerate(model.num_blocks) for j in range(depth)]
    return (("stem_conv", "stem_norm"), *((block,) for block in blocks))


FAMILY = Family(
    title="ResNet",
    summary="18 to 152, with group norm; ResNeXt",
    module=ResNet,
    task="classification",
    paper="1512.03385",
    reference="timm, torchvision",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants=_VARIANTS,
)
