"""DETR: detection, and panoptic segmentation, as the prediction of a set.

Paper: "End-to-End Object Detection with Transformers", arXiv 2005.12872. Reference:
facebookresearch/detr, whose names and numbers these are; Hugging Face's `DetrForObjectDetection`
and `DetrForSegmentation` compute the same.

Boxes are relative to the image itself, not to the padded batch: targets are divided by the height
and width of the valid pixels.

Deviations: pixels of the padding are set to zero here, as the reference's loader leaves them, so
that they never matter; biases that torch draws start at zero; any backbone with `feature_maps` can
stand in for the ResNet, and any of its maps for the last.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers import Mlp, MultiHeadAttention, run_layers, sine_2d
from zoo.models.backbones import freeze_fields, make_backbone
from zoo.ops.resize import resize_nearest
from zoo.types import InputError, Preprocessing, Variant

# As torch's Linear and Conv2d, and as its MultiheadAttention, which draws query, key and value as
# one matrix.
_LINEAR_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_FUSED_INIT = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")


@no_type_check  # JAX makes trees of anything of it
class DetrOutput(struct.PyTreeNode):
    """What DETR predicts for its queries.

    Attributes:
        logits: Of the classes and, last, of no object.
        boxes_cxcywh: In 0..1 of the image's own width and height, without padding.
        auxiliary_logits: Of every decoder layer but the last.
        auxiliary_boxes_cxcywh: Of every decoder layer but the last.
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

        def attention(y: Array) -> Array:
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

        def self_attention(y: Array) -> Array:
            return attend_self(y + queries, y + queries, y, train=train)

        def attention(y: Array) -> Array:
            return attend(y + queries, keys, memory, mask=valid, train=train)

        x = residual("norm1", x, self_attention)
        x = residual("norm2", x, attention)
        return residual("norm3", x, partial(_mlp(self), train=train))


def _attention(layer: EncoderLayer | DecoderLayer, name: str) -> MultiHeadAttention:
    return MultiHeadAttention(layer.num_heads, layer.dropout, _FUSED_INIT, layer.dtype, name=name)


def _mlp(layer: EncoderLayer | DecoderLayer) -> Mlp:
    return Mlp(layer.mlp_dim, layer.dropout, nn.relu, layer.dtype, name="mlp")


def _residual(layer: EncoderLayer | DecoderLayer, *, train: bool) -> Any:
    """A function that adds a branch, its norm before the branch or after the sum."""

    def residual(norm_name: str, x: Array, branch: Any) -> Array:
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
            x = nn.Dense(dim, kernel_init=_LINEAR_INIT, name=f"fc{i + 1}")(x)
            x = nn.relu(x) if i < 2 else nn.sigmoid(x)
        return x


class MaskAttention(nn.Module):
    """Where each query looks: attention maps, the softmax taken over all heads together."""

    num_heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "b q d"],
        memory: Float[Array, "b n d"],
        valid: Bool[Array, "b 1 1 n"],
    ) -> Float[Array, "b q n heads"]:
        """Maps that sum to 1 over cells and heads."""
        features = queries.shape[-1]
        dense = partial(nn.Dense, features, dtype=self.dtype)
        init = nn.initializers.xavier_uniform()
        q = dense(kernel_init=init, name="query")(queries) * (features // self.num_heads) ** -0.5
        k = dense(kernel_init=init, name="key")(memory)
        q = q.reshape(*q.shape[:2], self.num_heads, -1)
        k = k.reshape(*k.shape[:2], self.num_heads, -1)
        logits = jnp.einsum("bqhd,bnhd->bqnh", q, k, preferred_element_type=jnp.float32)
        mask = valid[:, 0, :, :, None]  # b 1 n 1
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
        return jax.nn.softmax(logits, axis=(2, 3)).astype(self.dtype)


class MaskHead(nn.Module):
    """Convolutions that refine every query's attention maps with the backbone's finer maps."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w d"],
        attention: Float[Array, "b q h w heads"],
        finer: tuple[Float[Array, "b _ _ _"], ...],
    ) -> Float[Array, "b q rows columns"]:
        """Logits of masks, at the size of the last of the `finer` maps, which go from coarse."""
        b, q, *_, heads = attention.shape
        d = x.shape[-1]
        conv = partial(
            nn.Conv,
            dtype=self.dtype,
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
        )
        norm = partial(nn.GroupNorm, epsilon=1e-5, dtype=self.dtype, use_fast_variance=False)
        x = jnp.broadcast_to(x[:, None], (b, q, *x.shape[1:]))
        x = jnp.concatenate([x, attention], axis=-1)
        x = x.reshape(b * q, *x.shape[2:])
        for i, dim in enumerate((d + heads, d // 2, d // 4, d // 8, d // 16)):
            if i >= 2:
                detail = conv(x.shape[-1], (1, 1), name=f"adapter{i - 1}")(finer[i - 2])
                x = resize_nearest(x, (detail.shape[1], detail.shape[2]))
                x = x.reshape(b, q, *x.shape[1:]) + detail[:, None]
                x = x.reshape(b * q, *x.shape[2:])
            x = conv(dim, (3, 3), padding=1, name=f"conv{i + 1}")(x)
            x = nn.relu(norm(min(8, dim), name=f"norm{i + 1}")(x))
        x = nn.Conv(1, (3, 3), padding=1, kernel_init=_LINEAR_INIT, name="out")(x)
        return x.reshape(b, q, *x.shape[1:3])


class Detr(nn.Module):
    """Images to a set of boxes with classes.

    Attributes:
        num_classes: Classes; the logits have one more, the last, for no object. 91 for COCO, whose
            category ids, up to 90, are the reference's classes.
        num_queries: Boxes that are predicted for every image.
        backbone: Name of a registered ResNet or ViT.
        backbone_fields: Fields of the backbone other than that name's. A ResNet with batch
            normalisation has it ``frozen`` unless `norm` is given.
        feature_level: Which of the backbone's maps is encoded; -1 is the coarsest.
        hidden_dim: Features of a token and of a query.
        num_heads: Heads of attention.
        num_encoder_layers: Layers over the image's tokens.
        num_decoder_layers: Layers over the queries.
        mlp_dim: Hidden features of the layers' MLP.
        dropout: Rate in attention, in the MLP and after each branch.
        pre_norm: Whether norms come before the branches, not after the sums.
        temperature: Of the positions' sinusoids, longest wavelength over shortest. On a small grid
            most of the paper's 10,000 wavelengths are too long to tell cells apart; 20, as in
            DAB-DETR (arXiv 2201.12329), then trains much faster.
        masks: Whether there is a head for masks, for panoptic segmentation.
        scan_layers: Whether the encoder's layers are compiled as one, and the decoder's; their
            parameters are then ``encoder`` and ``decoder`` with a leading axis, instead of
            ``encoder_0``, ... The backbone has a field of its own, if any.
        remat: Whether these layers are computed again in the backward pass, which saves memory.
        dtype: Of the computation; parameters, and the heads, are float32.
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

    def __post_init__(self) -> None:
        """Makes the backbone's fields hashable, as those of a module have to be."""
        object.__setattr__(self, "backbone_fields", freeze_fields(self.backbone_fields))
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules."""
        d = self.hidden_dim
        sizes = (self.num_heads, self.mlp_dim, self.dropout, self.pre_norm, self.dtype)
        self.body = self.make_body()
        self.input_proj = nn.Dense(d, dtype=self.dtype, kernel_init=_LINEAR_INIT)
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
        self.head = nn.Dense(self.num_classes + 1, kernel_init=_LINEAR_INIT)
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
        body = make_backbone(self.backbone, self.backbone_fields, self.dtype)
        if getattr(body, "norm", None) == "batch" and "norm" not in self.backbone_fields:
            return body.clone(norm="frozen")
        return body

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        train: bool = False,
    ) -> DetrOutput:
        """Predictions for normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            train: Whether dropout is on; needs the ``dropout`` stream.
        """
        if valid is None:
            valid = jnp.ones(images.shape[:3], bool)
        images = jnp.where(valid[..., None], images, 0)
        maps = self.body.feature_maps(images, train=train)
        level = self.feature_level % len(maps)
        x = self.input_proj(maps[level])  # b h w d
        cells = resize_nearest(valid, (x.shape[1], x.shape[2]))
        tokens = x.reshape(len(x), -1, self.hidden_dim)
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

        def call(layer: nn.Module, x: Array, _: None, *shared: Array) -> Array:
            return layer(x, *shared, train=train)

        rates = [0.0] * self.num_encoder_layers
        x = run_layers(self.encoder, call, x, rates, positions, valid, remat=remat)
        memory = self.encoder_norm(x) if self.pre_norm else x

        queries = self.query_embed[None].astype(x.dtype)
        y = jnp.zeros((len(x), *self.query_embed.shape), x.dtype)
        rates = [0.0] * self.num_decoder_layers
        shared = queries, memory, positions, valid
        states = run_layers(self.decoder, call, y, rates, *shared, remat=remat, every=True)
        return memory, self.decoder_norm(states)


def _key_mask(cells: Bool[Array, "b h w"]) -> Bool[Array, "b 1 1 n"]:
    return cells.reshape(len(cells), 1, 1, -1)


def _variant(**fields: Any) -> Variant:
    return Variant(partial(Detr, **fields), Preprocessing((800, 1333), interpolation="bilinear"))


_DC5 = FrozenDict({"dilated_stages": 1})
_HALF = (0.5, 0.5, 0.5)
_NANO = {
    "num_queries": 20,
    "backbone": "resnet_nano",
    "backbone_fields": FrozenDict(
        {"num_blocks": (2, 2), "stage_dims": (48, 96), "stem_dim": 48, "norm": "batch"}
    ),
    "hidden_dim": 128,
    "num_heads": 8,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "mlp_dim": 256,
    "dropout": 0.0,
    "pre_norm": True,
    "temperature": 20.0,
}

VARIANTS = {
    # Not the paper's: for tests, demos and small images.
    "detr_nano": Variant(
        partial(Detr, **_NANO), Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")
    ),
    "detr_resnet50": _variant(),
    "detr_resnet50_dc5": _variant(backbone_fields=_DC5),
    "detr_resnet50_panoptic": _variant(num_classes=250, masks=True),
    "detr_resnet101": _variant(backbone="resnet101"),
    "detr_resnet101_dc5": _variant(backbone="resnet101", backbone_fields=_DC5),
}
