"""Names of segmentation_models_pytorch for a U-Net on a ResNet."""

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.models.classification.resnet.model import ResNet
from zoo.weights.maps import BATCH_COUNTERS, batch_norm, biased_conv, conv


def smp(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `Unet`; its encoder has torchvision's names."""
    body = model.make_body()
    if not isinstance(body, ResNet):
        return ()
    decoder: list[Rule] = []
    for k in (1, 2):
        decoder += conv(f"decoder.blocks.{{i}}.conv{k}.0", f"decoder_{{i}}/conv{k}")
        decoder += batch_norm(f"decoder.blocks.{{i}}.conv{k}.1", f"decoder_{{i}}/norm{k}")
    return (
        *backbone_rules(body, "torchvision", "encoder."),
        *decoder,
        *biased_conv("segmentation_head.0", "head"),
    )


NAMES = (NameMap("smp", smp, BATCH_COUNTERS),)
