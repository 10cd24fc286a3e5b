"""Linen modules that two or more model families use."""

from zoo.layers.attention import MultiHeadAttention
from zoo.layers.conv import Padding, SeparableConv, conv_layer
from zoo.layers.conv_norm import ConvNorm
from zoo.layers.drop_path import DropPath
from zoo.layers.encoder_block import EncoderBlock
from zoo.layers.mlp import Mlp
from zoo.layers.norm import FrozenBatchNorm, Norm, norm_layer
from zoo.layers.patch_embed import PatchEmbed
from zoo.layers.position import fixed, resize_positions, sincos_1d, sincos_2d, sine_2d
from zoo.layers.pyramid import FPN, PAFPN
from zoo.layers.stack import drop_path_rates, run_layers

__all__ = [
    "FPN",
    "PAFPN",
    "ConvNorm",
    "DropPath",
    "EncoderBlock",
    "FrozenBatchNorm",
    "Mlp",
    "MultiHeadAttention",
    "Norm",
    "Padding",
    "PatchEmbed",
    "SeparableConv",
    "conv_layer",
    "drop_path_rates",
    "fixed",
    "norm_layer",
    "resize_positions",
    "run_layers",
    "sincos_1d",
    "sincos_2d",
    "sine_2d",
]
