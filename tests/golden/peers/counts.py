"""Numbers of parameters of the peers' models, under the zoo's names."""

import json
import re

import segmentation_models_pytorch as smp
import timm
import torch
import transformers
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer

from peers import detr, mae, text, unet
from peers.draws import HERE


def parameter_counts() -> None:
    """Of every model of timm that the zoo has, and of those that only the zoo names."""
    vit = r"vit_(tiny|small|base|large|huge|giant|gigantic)_patch\d+(_gap)?_\d+"
    names = re.compile(rf"{vit}|mixer_[sbl]\d+_224|resnet(18|34|50|101|152|50_gn)")
    with torch.device("meta"):
        models = {
            name: timm.create_model(name, num_classes=1000)
            for name in timm.list_models()
            if names.fullmatch(name)
        }
        nano = {"img_size": 32, "patch_size": 4, "embed_dim": 64}
        models["vit_nano_patch4_32"] = VisionTransformer(**nano, depth=4, num_heads=4)
        models["mixer_nano_patch4_32"] = MlpMixer(**nano, num_blocks=4)
        models["resnet_nano"] = ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 64, 128))
        for name, config in mae.CONFIGS.items():
            model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**config))
            del model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed  # fixed
            models[name] = model
        models["mixer_h14_224"] = MlpMixer(patch_size=14, num_blocks=32, embed_dim=1280)
        for name in ("resnet34", "resnet50"):
            models[f"unet_{name}"] = smp.Unet(name, encoder_weights=None, classes=2)
        dims = (16, 32, 64, 128), (64, 32, 32, 16, 16)
        models["unet_resnet_nano"] = unet.NarrowSmpUnet(*dims, 2)
        models["unet"] = unet.TorchUNet(4, 64, 2, "valid", False, "none")
        models["unet_same"] = unet.TorchUNet(4, 64, 2, "same", False, "batch")
        models["unet_nano"] = unet.TorchUNet(2, 32, 2, "same", False, "batch")
        models |= detr.detr_models() | text.text_models()
    counts = {name: count(model) for name, model in sorted(models.items())}
    (HERE / "parameter_counts.json").write_text(json.dumps(counts, indent=2) + "\n")


def count(model: torch.nn.Module) -> int:
    """Parameters; the scales and biases of frozen norms, which torch has as buffers, too."""
    frozen = [x for name, x in model.named_buffers() if name.endswith(("weight", "bias"))]
    return sum(x.numel() for x in (*model.parameters(), *frozen))
