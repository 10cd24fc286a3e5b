"""Goldens of ViT, made by timm, torchvision, transformers, and from files of big_vision."""

import tempfile

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.numpy import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

from peers.draws import HERE, images, randomise, save

NANO = "vit_nano_patch4_32"
VIT = {"hidden_dim": 16, "num_layers": 2, "patch_size": 4, "num_classes": 5}
VIT |= {"num_heads": 2, "mlp_dim": 64, "image_size": 16}
TIMM_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 5}

NAMES = (
    *("vit_tiny_patch16_224", "vit_tiny_patch16_384"),
    *("vit_small_patch8_224", "vit_small_patch16_224", "vit_small_patch16_384"),
    *("vit_small_patch32_224", "vit_small_patch32_384"),
    *("vit_base_patch8_224", "vit_base_patch16_224", "vit_base_patch16_384"),
    *("vit_base_patch32_224", "vit_base_patch32_384", "vit_base_patch16_gap_224"),
    *("vit_large_patch14_224", "vit_large_patch16_224", "vit_large_patch16_384"),
    *("vit_large_patch32_224", "vit_large_patch32_384"),
    *("vit_huge_patch14_224", "vit_huge_patch14_gap_224", "vit_huge_patch16_gap_448"),
    *("vit_giant_patch14_224", "vit_giant_patch16_gap_224", "vit_gigantic_patch14_224"),
)


def goldens() -> None:
    """Goldens of the models and files of all sources, and of timm's resampling of positions."""
    timm_vits()
    torchvision_vit()
    huggingface_vits()
    torch.manual_seed(0)
    vision_transformer()
    positions()


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names; their parameters are counted."""
    nano = VisionTransformer(img_size=32, patch_size=4, embed_dim=64, depth=4, num_heads=4)
    return {**{name: timm.create_model(name, num_classes=1000) for name in NAMES}, NANO: nano}


def save_vit(case: str, fields: dict, *arguments, **options) -> None:
    """Writes the golden of a ViT; after two blocks logits and tokens are below 10."""
    save(f"vit_{case}", NANO, fields, *arguments, tolerance=1e-5, **options)


def timm_vits() -> None:
    """timm's ViT with every pooling, at square and non-square sizes."""
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
        save_vit(f"timm_{case}", fields, model, x, source="timm", tokens=tokens)


def torchvision_vit() -> None:
    """torchvision's ViT, which has different names for the fused projections."""
    model = torchvision.models.VisionTransformer(16, 4, 2, 2, 16, 64, num_classes=5)
    save_vit("torchvision", VIT, randomise(model), images(16, 16), source="torchvision")


def huggingface_vits() -> None:
    """A model with a head, in the names of files, and one without, in the names of state dicts."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=64, image_size=16, patch_size=4, num_labels=5
    )
    model = randomise(transformers.ViTForImageClassification(config))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(f"{folder}/model.safetensors")
    x = images(16, 16)
    save_vit("huggingface", VIT, model, x, weights, source="huggingface")
    model = randomise(transformers.ViTModel(config))
    fields = {**VIT, "num_classes": 0, "representation_dim": 16}
    save_vit("huggingface_model", fields, model, x, source="huggingface")


def vision_transformer() -> None:
    """Files in the npz layouts of big_vision and vision_transformer, loaded by timm."""
    d, block = (16,), "Transformer/encoderblock_{}/"
    for case, tokens, numbers in (
        ("big_vision", 16, ("0", "0", "1", "0")),
        ("vision_transformer", 17, ("0", "1", "2", "3")),
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
        save_vit(case, VIT, model, images(16, 16), weights, source="big_vision")


def positions() -> None:
    """timm's resampling of learned positions to larger, smaller and non-square grids."""
    grids = {"up": (7, 9), "down": (3, 2), "mixed": (2, 8)}
    learned = torch.randn(1, 25, 8)
    arrays = {"learned": learned[0].reshape(5, 5, 8)}
    for case, grid in grids.items():
        resized = resample_abs_pos_embed(learned, list(grid), num_prefix_tokens=0)
        arrays[case] = resized[0].reshape(*grid, 8)
    np.savez_compressed(HERE / "timm_positions.npz", **arrays)
