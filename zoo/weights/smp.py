"""segmentation_models_pytorch's names: U-Net on a ResNet."""

from flax import linen as nn

from zoo.weights import timm
from zoo.weights.maps import BATCH_COUNTERS, CONV, NameMap, Rule, batch_norm, conv, rule


def unet(model: nn.Module) -> tuple[Rule, ...]:
    """`Unet`; its encoder has torchvision's names."""
    backbone = model.make_backbone()
    if type(backbone).__name__ != "ResNet":
        return ()
    encoder = [
        Rule(f"encoder.{theirs}", tuple(_within(path, "backbone") for path in ours), layout)
        for theirs, ours, layout in timm.resnet(backbone)
    ]
    decoder = []
    for k in (1, 2):
        decoder += conv(f"decoder.blocks.{{i}}.conv{k}.0", f"decoder_{{i}}/conv{k}")
        decoder += batch_norm(f"decoder.blocks.{{i}}.conv{k}.1", f"decoder_{{i}}/norm{k}")
    return (
        *encoder,
        *decoder,
        rule("segmentation_head.0.weight", "head/kernel", layout=CONV),
        rule("segmentation_head.0.bias", "head/bias"),
    )


def _within(path: str, part: str) -> str:
    """The path of a model's leaf in a model that has that model as a part."""
    collection, _, rest = path.partition("/")
    return f"{collection}/{part}/{rest}"


MAPS = {"BackboneUNet": (NameMap("smp", unet, BATCH_COUNTERS),)}
