"""Darknet: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.darknet.model import Darknet
from zoo.models.classification.darknet.names import NAMES
from zoo.models.inputs import images
from zoo.types import Interpolation, Preprocessing

_PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std of darknet's images


def _darknet(side: int, paper: str | None = None, **fields: Any) -> Variant:
    how = Preprocessing((side, side), *_PIXELS, "bilinear", 1.0)
    return Variant(fields, how, paper=paper)


def _plain(*stages: tuple[int, ...], narrow_first: tuple[int, ...] = ()) -> dict[str, Any]:
    """Fields of a network of 3 x 3 and, where features become fewer or halve, 1 x 1 convolutions.

    Args:
        *stages: Features of the convolutions of each stage.
        narrow_first: The stages that begin with a 1 x 1 convolution.
    """
    sizes = []
    for i, dims in enumerate(stages):
        first = int(i in narrow_first)
        sizes += [1 if (j + first) % 2 else 3 for j in range(len(dims))]
    dims = tuple(dim for stage in stages for dim in stage)
    counts = tuple(len(stage) for stage in stages)
    return {"num_convs": counts, "conv_dims": dims, "conv_sizes": tuple(sizes)}


def _residual(stem_dim: int, blocks: tuple[int, ...], dims: tuple[int, ...]) -> dict[str, Any]:
    """Fields of a network of stages of a 3 x 3 convolution and blocks of 1 x 1 and 3 x 3."""
    all_dims, sizes = [stem_dim], [3]
    for count, dim in zip(blocks, dims, strict=True):
        all_dims += [dim, *(dim // 2, dim) * count]
        sizes += [3, *(1, 3) * count]
    return {
        "num_convs": (1, *(1 + 2 * count for count in blocks)),
        "conv_dims": tuple(all_dims),
        "conv_sizes": tuple(sizes),
        "residual": True,
    }


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """Each convolution."""
    return tuple((name,) for name in model.conv_names)


_TIMM: Interpolation = "bicubic"
_NINETEEN = (
    *((32,), (64,), (128, 64, 128), (256, 128, 256)),
    *((512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024)),
)
_EXTRACTION = (
    *((64,), (192,), (128, 256, 256, 512)),
    (*(256, 512) * 4, 512, 1024),
    (*(512, 1024) * 2,),
)

FAMILY = Family(
    title="Darknet",
    summary="19, 53, the small reference network, Extraction",
    module=Darknet,
    task="classification",
    paper="1804.02767",
    reference="darknet, timm",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants={
        # Not from a paper: for tests, demos and small images. Statistics change faster.
        "darknet_nano": Variant(
            {**_residual(16, (1, 1, 1), (32, 64, 96)), "norm_momentum": 0.9},
            Preprocessing((64, 64), *_PIXELS, "bilinear"),
        ),
        "darknet53": Variant(
            _residual(32, (1, 2, 8, 8, 4), (64, 128, 256, 512, 1024)),
            Preprocessing((256, 256), interpolation=_TIMM, crop_fraction=0.887),
        ),
        "darknet19": _darknet(256, paper="1612.08242", **_plain(*_NINETEEN)),
        # darknet's cfg/darknet.cfg.
        "darknet_reference": _darknet(256),
        # The first 20 convolutions of YOLO v1, with the head of darknet's cfg/extraction.cfg.
        "extraction": _darknet(
            224,
            paper="1506.02640",
            **{
                **_plain(*_EXTRACTION, narrow_first=(2, 3, 4)),
                "conv_sizes": (7, 3, *(1, 3) * 9),
                "stem_stride": 2,
                "leaky_head": True,
            },
        ),
    },
)
