"""Goldens of U-Nets with a backbone, made by segmentation_models_pytorch."""

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from timm.models.resnet import BasicBlock, ResNet

from peers.draws import images, randomise, save


class NarrowUnet(torch.nn.Module):
    """The decoder and head of segmentation_models_pytorch on timm's ResNet, which can be narrow."""

    def __init__(self, dims: tuple[int, ...], decoder_dims: tuple[int, ...], classes: int):
        super().__init__()
        self.encoder = ResNet(BasicBlock, (1, 1, 1, 1), channels=dims)
        del self.encoder.fc
        self.decoder = UnetDecoder((3, 64, *dims), decoder_dims)
        self.segmentation_head = SegmentationHead(decoder_dims[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.encoder
        maps = [x, torch.relu(net.bn1(net.conv1(x)))]
        y = net.maxpool(maps[-1])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            y = stage(y)
            maps.append(y)
        return self.segmentation_head(self.decoder(maps))


def goldens() -> None:
    """Writes the golden of a small `Unet`."""
    dims, decoder_dims = (4, 8, 8, 8), (8, 4, 4, 4, 4)
    model = randomise(NarrowUnet(dims, decoder_dims, 3))
    fields = {"backbone": "resnet_nano", "backbone_fields": {"stage_dims": dims}}
    fields |= {"decoder_dims": decoder_dims, "num_classes": 3}
    save("backbone_unet_smp", "unet_resnet34", fields, model, images(32, 32), source="smp")


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names; their parameters are counted."""
    backbones = ("resnet34", "resnet50")
    return {
        **{f"unet_{name}": smp.Unet(name, encoder_weights=None, classes=2) for name in backbones},
        "unet_resnet_nano": NarrowUnet((16, 32, 64, 128), (64, 32, 32, 16, 16), 2),
    }
