"""The region proposal network (Faster R-CNN, arXiv 1506.01497, section 3)."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from zoo.layers.conv import conv_layer
from zoo.models.detection.parts.inputs import sample_keys
from zoo.models.detection.parts.outputs import Regions
from zoo.models.detection.parts.proposals import ProposalRule
from zoo.models.detection.parts.samples import AnchorSampling
from zoo.ops.anchors import Anchors
from zoo.outputs import Targets

_INIT = nn.initializers.normal(0.01)


class RpnHead(nn.Module):
    """Convolutions, the same for all levels, to a logit and four deltas for each anchor.

    Attributes:
        num_anchors: Anchors of a cell.
        num_convs: 3 x 3 convolutions with a ReLU before the two outputs.
        dim: Their features; None: as many as the map has.
        dtype: Dtype of these; parameters and the outputs are float32.
    """

    num_anchors: int
    num_convs: int = 1
    dim: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: Sequence[Float[Array, "b _ _ c"]]
    ) -> tuple[list[Float[Array, "b _"]], list[Float[Array, "b _ 4"]]]:
        """Logits and deltas of each level, ordered by row, column, and anchor of the cell."""
        options = {"bias": True, "kernel_init": _INIT}
        convs = [
            conv_layer(
                self.dim or maps[0].shape[-1], 3, dtype=self.dtype, name=f"conv_{i}", **options
            )
            for i in range(self.num_convs)
        ]
        outputs = [
            conv_layer(size * self.num_anchors, 1, dtype=jnp.float32, name=name, **options)
            for name, size in (("logits", 1), ("deltas", 4))
        ]
        logits, deltas = [], []
        for x in maps:
            for conv in convs:
                x = nn.relu(conv(x))
            x = x.astype(jnp.float32)
            logits.append(outputs[0](x).reshape(x.shape[0], -1))
            deltas.append(outputs[1](x).reshape(x.shape[0], -1, 4))
        return logits, deltas


class RegionProposalNetwork(nn.Module):
    """Feature maps to proposals and, in training, the anchors of the losses.

    Attributes:
        anchors: One set of sizes for each map.
        rule: Which proposals are kept.
        sampling: Which anchors the losses are computed for.
        num_convs: As in `RpnHead`.
        dim: As in `RpnHead`.
        dtype: As in `RpnHead`.
    """

    anchors: Anchors
    rule: ProposalRule = ProposalRule()
    sampling: AnchorSampling = AnchorSampling()
    num_convs: int = 1
    dim: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        image_shape: tuple[int, int],
        sizes: Int[Array, "b 2"],
        targets: Targets | None = None,
        *,
        train: bool = False,
    ) -> Regions:
        """The proposals of each image.

        Args:
            maps: Finest first.
            image_shape: Height and width of the padded batch.
            sizes: Height and width of each image without padding.
            targets: The objects; in training they decide which anchors are sampled.
            train: Whether the numbers of training are used; with targets, anchors are drawn with
                the stream ``sample``, or are the first ones without this stream.
        """
        head = RpnHead(self.anchors.num_per_cell, self.num_convs, self.dim, self.dtype, name="head")
        logits, deltas = head(maps)
        shapes = [(x.shape[1], x.shape[2]) for x in maps]
        per_level = self.anchors.per_level(shapes, image_shape)
        boxes, valid = self.rule(logits, deltas, per_level, sizes, train=train)
        anchors = jnp.concatenate(per_level)
        samples = None
        if train and targets is not None:
            samples = self.sampling(anchors, targets, sample_keys(self, len(boxes)))
        return Regions(
            jnp.concatenate(logits, axis=1),
            jnp.concatenate(deltas, axis=1),
            anchors,
            boxes,
            valid,
            samples,
        )
