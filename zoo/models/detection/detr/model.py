"""DETR: detection and panoptic segmentation as the prediction of a set.

Paper: "End-to-End Object Detection with Transformers", arXiv 2005.12872. Reference:
facebookresearch/detr, with which outputs agree; Hugging Face's `DetrForObjectDetection`
and `DetrForSegmentation` compute the same.

Boxes are relative to the image itself, not to the padded batch: targets are divided by the height
and width of the valid pixels.

Deviations: the model sets pixels of the padding to zero, as the reference's loader does, so that
their values have no effect; biases that torch initialises randomly start at zero; any backbone with
`feature_maps` can replace the ResNet, and any of its maps can replace the last.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, no_type_check

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Shaped

from zoo.layers import Mlp, MultiHeadAttention, run_layers, sine_2d
from zoo.layers.initializers import TORCH_ATTENTION_INIT, TORCH_LINEAR_INIT
from zoo.models.backbones import freeze_fields, make_frozen_backbone
from zoo.models.detection.detr.masks import MaskAttention, MaskHead
from zoo.ops.resample import resize_nearest
from zoo.outputs import Targets
from zoo.types import InputError, Preprocessing


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class DetrOutput(struct.PyTreeNode):
    """What DETR predicts for its queries.

    Attributes:
        logits: Logits of the classes and, last, of no object.
        boxes_cxcywh: Boxes relative to the width and height of the image without padding, 0..1.
        auxiliary_logits: Logits of every decoder layer except the last.
        auxiliary_boxes_cxcywh: Boxes of every decoder layer except the last.
        masks: Logits of each query's mask, over the padded image, at the stride of the finest map
            of the backbone; None for a model without `masks`.
    """

    logits: Float[Array, "b q k"]
    boxes_cxcywh: Float[Array, "b q 4"]
    auxiliary_logits: Float[Array, "l b q k"]
    auxiliary_boxes_cxcywh: Float[Array, "l b q 4"]
    masks: Float[Array, "b q rows columns"] | None = None


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each with a residual; positions are added to queries and keys."""

    num_heads: int
    mlp_dim: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        positions: Float[Array, "b n d"],
        valid: Bool[Array, "b 1 1 n"],
        *,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """The next tokens; training with dropout needs the ``dropout`` stream."""
        residual = _residual(self, train=train)
        attend = _attention(self, "attn")

        def attention(y: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
            return attend(y + positions, y + positions, y, mask=valid, train=train)

        x = residual("norm1", x, attention)
        return residual("norm2", x, partial(_mlp(self), train=train))


class DecoderLayer(nn.Module):
    """Self-attention, attention over the encoded image, and MLP, each with a residual."""

    num_heads: int
    mlp_dim: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q d"],
        queries: Float[Array, "1 q d"],
        memory: Float[Array, "b n d"],
        positions: Float[Array, "b n d"],
        valid: Bool[Array, "b 1 1 n"],
        *,
        train: bool = False,
    ) -> Float[Array, "b q d"]:
        """The next states of the queries; training with dropout needs the ``dropout`` stream."""
        residual = _residual(self, train=train)
        attend_self, attend = _attention(self, "self_attn"), _attention(self, "cross_attn")
        keys = memory + positions

        def self_attention(y: Float[Array, "b q d"]) -> Float[Array, "b q d"]:
            return attend_self(y + queries, y + queries, y, train=train)

        def attention(y: Float[Array, "b q d"]) -> Float[Array, "b q d"]:
            return attend(y + queries, keys, memory, mask=valid, train=train)

        x = residual("norm1", x, self_attention)
        x = residual("norm2", x, attention)
        return residual("norm3", x, partial(_mlp(self), train=train))


def _attention(layer: EncoderLayer | DecoderLayer, name: str) -> MultiHeadAttention:
    return MultiHeadAttention(
        layer.num_heads, layer.dropout, TORCH_ATTENTION_INIT, layer.dtype, name=name
    )


def _mlp(layer: EncoderLayer | DecoderLayer) -> Mlp:
    return Mlp(layer.mlp_dim, layer.dropout, nn.relu, layer.dtype, name="mlp")


def _residual(layer: EncoderLayer | DecoderLayer, *, train: bool) -> Any:
    """A function that adds a branch; the norm is before the branch or after the sum."""

    def residual(norm_name: str, x: Float[Array, "b n d"], branch: Any) -> Float[Array, "b n d"]:
        norm = nn.LayerNorm(epsilon=1e-5, dtype=layer.dtype, name=norm_name)
        dropout = nn.Dropout(layer.dropout, deterministic=not train)
        if layer.pre_norm:
            return x + dropout(branch(norm(x)))
        return norm(x + dropout(branch(x)))

    return residual


class BoxHead(nn.Module):
    """Three dense layers to four numbers in 0..1."""

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... 4"]:
        """Boxes, cxcywh."""
        for i, dim in enumerate((x.shape[-1], x.shape[-1], 4)):
            x = nn.Dense(dim, kernel_init=TORCH_LINEAR_INIT, name=f"fc{i + 1}")(x)
            x = nn.relu(x) if i < 2 else nn.sigmoid(x)
        return x


class Detr(nn.Module):
    """Images to a set of boxes with classes.

    Attributes:
        num_classes: Number of classes; the logits have one more, the last, for no object. 91 for
            COCO: the reference uses COCO's category ids, up to 90, as classes.
        num_queries: Number of boxes that are predicted for every image.
        backbone: Name of a registered ResNet or ViT.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation in a
            ResNet is ``frozen`` unless `norm` is given here.
        feature_level: Index of the backbone's map that is encoded; -1 is the coarsest.
        hidden_dim: Features of a token and of a query.
        num_heads: Heads of attention.
        num_encoder_layers: Layers over the image's tokens.
        num_decoder_layers: Layers over the queries.
        mlp_dim: Hidden features of the layers' MLP.
        dropout: Dropout rate in attention, in the MLP and after each branch.
        pre_norm: Whether norms are before the branches; else after the sums.
        temperature: Longest over shortest wavelength of the positions' sinusoids. On a small grid
            most of the paper's 10,000 wavelengths are too long to tell cells apart; 20, as in
            DAB-DETR (arXiv 2201.12329), then trains much faster.
        masks: Whether there is a head for masks, for panoptic segmentation.
        scan_layers: Whether the encoder's layers are compiled as one, and the decoder's; their
            parameters are then ``encoder`` and ``decoder`` with a leading axis, instead of
            ``encoder_0``, ... A backbone may have its own such field.
        remat: Whether these layers are computed again in the backward pass, which saves memory.
        dtype: Dtype of the computation; parameters and the heads are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 91
    num_queries: int = 100
    backbone: str = "resnet50"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    feature_level: int = -1
    hidden_dim: int = 256
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    mlp_dim: int = 2048
    dropout: float = 0.1
    pre_norm: bool = False
    temperature: float = 10_000.0
    masks: bool = False
    scan_layers: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the backbone's fields hashable, as a module's fields must be."""
        object.__setattr__(self, "backbone_fields", freeze_fields(self.backbone_fields))
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules."""
        d = self.hidden_dim
        sizes = (self.num_heads, self.mlp_dim, self.dropout, self.pre_norm, self.dtype)
        self.body = self.make_body()
        self.input_proj = nn.Dense(d, dtype=self.dtype, kernel_init=TORCH_LINEAR_INIT)
        if self.scan_layers:
            self.encoder, self.decoder = EncoderLayer(*sizes), DecoderLayer(*sizes)
        else:
            self.encoder = [EncoderLayer(*sizes) for _ in range(self.num_encoder_layers)]
            self.decoder = [DecoderLayer(*sizes) for _ in range(self.num_decoder_layers)]
        norm = partial(nn.LayerNorm, epsilon=1e-5, dtype=self.dtype)
        if self.pre_norm:
            self.encoder_norm = norm()
        self.decoder_norm = norm()
        init = nn.initializers.normal(1.0)
        self.query_embed = self.param("query_embed", init, (self.num_queries, d))
        self.head = nn.Dense(self.num_classes + 1, kernel_init=TORCH_LINEAR_INIT)
        self.box_head = BoxHead()
        if self.masks:
            self.mask_attention = MaskAttention(self.num_heads, self.dtype)
            self.mask_head = MaskHead(self.dtype)

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        return make_frozen_backbone(self.backbone, self.backbone_fields, self.dtype)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> DetrOutput:
        """Predictions for normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: Not used: this model samples no queries in training.
            train: Whether dropout is on; needs the ``dropout`` stream.
        """
        if valid is None:
            valid = jnp.ones(images.shape[:3], bool)
        images = jnp.where(valid[..., None], images, 0)
        maps = self.body.feature_maps(images, train=train)
        level = self.feature_level % len(maps)
        x = self.input_proj(maps[level])  # b h w d
        cells = resize_nearest(valid, (x.shape[1], x.shape[2]))
        tokens = x.reshape(x.shape[0], -1, self.hidden_dim)
        memory, states = self.transform(tokens, cells, train=train)

        logits, boxes = self.head(states), self.box_head(states)
        masks = None
        if self.masks:
            if level < 3:
                raise InputError(f"masks need 4 feature maps; {self.backbone} has {level + 1}")
            attention = self.mask_attention(states[-1], memory, _key_mask(cells))
            attention = attention.reshape(*attention.shape[:2], *x.shape[1:3], -1)
            masks = self.mask_head(x, attention, tuple(maps[level - i] for i in (1, 2, 3)))
        return DetrOutput(logits[-1], boxes[-1], logits[:-1], boxes[:-1], masks)

    def transform(
        self, x: Float[Array, "b n d"], cells: Bool[Array, "b h w"], *, train: bool = False
    ) -> tuple[Float[Array, "b n d"], Float[Array, "l b q d"]]:
        """The encoded tokens, and the queries' normalised states after every decoder layer."""
        positions = sine_2d(cells, self.hidden_dim, temperature=self.temperature)
        positions = positions.reshape(x.shape).astype(x.dtype)
        valid = _key_mask(cells)
        remat = self.remat and train

        def call(
            layer: nn.Module, x: Float[Array, "b n d"], _: None, *shared: Shaped[Array, "..."]
        ) -> Float[Array, "b n d"]:
            return layer(x, *shared, train=train)

        rates = [0.0] * self.num_encoder_layers
        x = run_layers(self.encoder, call, x, rates, positions, valid, remat=remat)
        memory = self.encoder_norm(x) if self.pre_norm else x

        queries = self.query_embed[None].astype(x.dtype)
        y = jnp.zeros((x.shape[0], *self.query_embed.shape), x.dtype)
        rates = [0.0] * self.num_decoder_layers
        shared = queries, memory, positions, valid
        states = run_layers(self.decoder, call, y, rates, *shared, remat=remat, every=True)
        return memory, self.decoder_norm(states)


def _key_mask(cells: Bool[Array, "b h w"]) -> Bool[Array, "b 1 1 n"]:
    return cells.reshape(cells.shape[0], 1, 1, -1)
