"""Linen modules that two or more model families use."""

from zoo.layers.attention import MultiHeadAttention
from zoo.layers.drop_path import DropPath
from zoo.layers.mlp import Mlp
from zoo.layers.norm import FrozenBatchNorm, Norm, norm_layer
from zoo.layers.patch_embed import PatchEmbed
from zoo.layers.position import resize_positions, sincos_1d, sincos_2d, sine_2d

__all__ = [
    "DropPath",
    "FrozenBatchNorm",
    "Mlp",
    "MultiHeadAttention",
    "Norm",
    "PatchEmbed",
    "norm_layer",
    "resize_positions",
    "sincos_1d",
    "sincos_2d",
    "sine_2d",
]
