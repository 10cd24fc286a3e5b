"""segmentation_models_pytorch's names: U-Net on a ResNet."""

from flax import linen as nn

from zoo.weights import timm
from zoo.weights.maps import (
    BATCH_COUNTERS,
    NameMap,
    Rule,
    batch_norm,
    biased_conv,
    conv,
    within,
)


def unet(model: nn.Module) -> tuple[Rule, ...]:
    """`Unet`; its encoder has torchvision's names."""
    body = model.make_body()
    if type(body).__name__ != "ResNet":
        return ()
    decoder: list[Rule] = []
    for k in (1, 2):
        decoder += conv(f"decoder.blocks.{{i}}.conv{k}.0", f"decoder_{{i}}/conv{k}")
        decoder += batch_norm(f"decoder.blocks.{{i}}.conv{k}.1", f"decoder_{{i}}/norm{k}")
    return (
        *within(timm.resnet(body), "encoder.", "body"),
        *decoder,
        *biased_conv("segmentation_head.0", "head"),
    )


MAPS = {"BackboneUNet": (NameMap("smp", unet, BATCH_COUNTERS),)}
