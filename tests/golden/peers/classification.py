"""Goldens of ViT, Mixer and ResNet: timm, torchvision, transformers, big_vision's files."""

import tempfile

import numpy as np
import torch
import torchvision
import transformers
from safetensors.numpy import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer

from peers.draws import HERE, images, randomise, save

SIZE = {"hidden_dim": 16, "num_layers": 2, "patch_size": 4, "num_classes": 5}
VIT = {**SIZE, "num_heads": 2, "mlp_dim": 64, "image_size": 16}
TIMM_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 5}


def timm_transformers() -> None:
    """ViT in all its poolings, at non-square and other sizes; Mixer."""
    mean = {"pool": "mean", "norm_after_pool": True}
    gap = {"pool": "mean", "class_token": False}
    cases = {
        "token": ({}, {}, (16, 16)),
        "mean": (mean, {"global_pool": "avg"}, (16, 16)),
        "gap": (gap, {"global_pool": "avg", "class_token": False, "fc_norm": False}, (16, 16)),
        "wide": ({"image_size": [16, 24]}, {"img_size": (16, 24)}, (16, 24)),
        "resized": ({}, {"dynamic_img_size": True}, (12, 32)),
    }
    for case, (ours, theirs, size) in cases.items():
        model = randomise(VisionTransformer(**{"img_size": 16, **TIMM_VIT, **theirs}))
        x = images(*size)
        fields = {**VIT, **ours}
        tokens = model.forward_features(x)
        save(f"timm_vit_{case}", "vit_nano_patch4_32", fields, model, x, tokens=tokens)

    model = MlpMixer(img_size=16, patch_size=4, num_blocks=2, embed_dim=16, num_classes=5)
    fields = {**SIZE, "tokens_mlp_dim": 8, "channels_mlp_dim": 64, "image_size": 16}
    x = images(16, 16)
    tokens = randomise(model).forward_features(x)
    save("timm_mixer", "mixer_nano_patch4_32", fields, model, x, tokens=tokens)


def timm_resnets() -> None:
    """Both blocks and both norms, narrow but for timm's fixed stem; an odd image size."""
    kinds = {"basic": BasicBlock, "bottleneck": Bottleneck}
    for kind, norm in (("basic", "batch"), ("bottleneck", "batch"), ("basic", "group")):
        narrow = norm == "batch"
        dims, norm_layer = ((4, 8, 8, 8), "batchnorm2d") if narrow else ((32,) * 4, "groupnorm")
        depths = (2, 1, 1, 1) if narrow else (1, 1, 1, 1)
        model = ResNet(kinds[kind], depths, channels=dims, norm_layer=norm_layer, num_classes=5)
        fields = {"block": kind, "norm": norm, "num_blocks": depths, "stage_dims": dims}
        x = images(33, 24)
        maps = randomise(model).forward_features(x).permute(0, 2, 3, 1)
        fields["num_classes"] = 5
        save(f"timm_resnet_{kind}_{norm}", "resnet_nano", fields, model, x, tokens=maps)


def torchvision_vit() -> None:
    """Their fused projections have names of their own."""
    model = torchvision.models.VisionTransformer(16, 4, 2, 2, 16, 64, num_classes=5)
    save("torchvision_vit", "vit_nano_patch4_32", VIT, randomise(model), images(16, 16))


def huggingface() -> None:
    """ViT with a head, as a file has it, and without one, as a state dict has it; ResNet."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=64, image_size=16, patch_size=4, num_labels=5
    )
    model = randomise(transformers.ViTForImageClassification(config))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(f"{folder}/model.safetensors")
    x = images(16, 16)
    save("huggingface_vit", "vit_nano_patch4_32", VIT, model, x, weights)
    model = randomise(transformers.ViTModel(config))
    fields = {**VIT, "num_classes": 0, "representation_dim": 16}
    save("huggingface_vit_model", "vit_nano_patch4_32", fields, model, x)

    for kind, dims in (("basic", [4, 8]), ("bottleneck", [16, 32])):
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=dims, depths=[1, 2], layer_type=kind, num_labels=5
        )
        model = randomise(transformers.ResNetForImageClassification(config))
        fields = {"block": kind, "num_blocks": [1, 2], "stage_dims": [4, 8], "stem_dim": 8}
        fields["num_classes"] = 5
        save(f"huggingface_resnet_{kind}", "resnet_nano", fields, model, images(17, 16))


def vision_transformer() -> None:
    """The npz layouts of big_vision and of vision_transformer, as timm reads them."""
    d, block = (16,), "Transformer/encoderblock_{}/"
    for case, tokens, numbers in (
        ("big_vision_vit", 16, ("0", "0", "1", "0")),
        ("vision_transformer_vit", 17, ("0", "1", "2", "3")),
    ):
        shapes = {"embedding/kernel": (4, 4, 3, 16), "embedding/bias": d, "cls": (1, 1, 16)}
        name = "pos_embedding" if tokens == 16 else "Transformer/posembed_input/pos_embedding"
        shapes[name] = (1, tokens, 16)
        for i in range(2):
            first, attention, second, mlp = (block.format(i) + n for n in ("",) * 4)
            first += f"LayerNorm_{numbers[0]}/"
            attention += f"MultiHeadDotProductAttention_{numbers[1]}/"
            second += f"LayerNorm_{numbers[2]}/"
            mlp += f"MlpBlock_{numbers[3]}/"
            for part in ("query", "key", "value"):
                shapes |= {
                    f"{attention}{part}/kernel": (16, 2, 8),
                    f"{attention}{part}/bias": (2, 8),
                }
            shapes |= {f"{attention}out/kernel": (2, 8, 16), f"{attention}out/bias": d}
            shapes |= {f"{norm}{leaf}": d for norm in (first, second) for leaf in ("scale", "bias")}
            shapes |= {f"{mlp}Dense_0/kernel": (16, 64), f"{mlp}Dense_0/bias": (64,)}
            shapes |= {f"{mlp}Dense_1/kernel": (64, 16), f"{mlp}Dense_1/bias": d}
        shapes |= {f"Transformer/encoder_norm/{leaf}": d for leaf in ("scale", "bias")}
        shapes |= {"head/kernel": (16, 5), "head/bias": (5,)}
        prefix = "params/" if tokens == 16 else "opt/target/"
        weights = {
            prefix + name: (torch.randn(shape) * 3).round().div(16).numpy()
            for name, shape in shapes.items()
        }
        no_position = {"no_embed_class": True} if tokens == 16 else {}
        model = VisionTransformer(img_size=16, **TIMM_VIT, **no_position).eval()
        with tempfile.TemporaryDirectory() as folder:
            np.savez(f"{folder}/weights.npz", **weights)
            model.load_pretrained(f"{folder}/weights.npz")
        save(case, "vit_nano_patch4_32", VIT, model, images(16, 16), weights)


def positions() -> None:
    """timm's resampling of learned positions, up, down and to another shape."""
    grids = {"up": (7, 9), "down": (3, 2), "mixed": (2, 8)}
    learned = torch.randn(1, 25, 8)
    arrays = {"learned": learned[0].reshape(5, 5, 8)}
    for case, grid in grids.items():
        resized = resample_abs_pos_embed(learned, list(grid), num_prefix_tokens=0)
        arrays[case] = resized[0].reshape(*grid, 8)
    np.savez_compressed(HERE / "timm_positions.npz", **arrays)
