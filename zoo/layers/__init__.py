"""Linen modules that two or more model families use."""

from zoo.layers.attention import MultiHeadAttention
from zoo.layers.drop_path import DropPath
from zoo.layers.encoder_block import EncoderBlock
from zoo.layers.mlp import Mlp
from zoo.layers.patch_embed import PatchEmbed
from zoo.layers.position import fixed, resize_positions, sincos_1d, sincos_2d, sine_2d

__all__ = [
    "DropPath",
    "EncoderBlock",
    "Mlp",
    "MultiHeadAttention",
    "PatchEmbed",
    "fixed",
    "resize_positions",
    "sincos_1d",
    "sincos_2d",
    "sine_2d",
]
