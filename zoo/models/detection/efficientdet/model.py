"""EfficientDet.

Paper: "EfficientDet: Scalable and Efficient Object Detection", arXiv 1911.09070, figure 3 and table
1. References: rwightman's effdet, with which outputs agree, and google/automl, from whose weights
those of effdet with ``tf_`` in their names come.

Labels count the classes from 0: label k of the 90 is COCO's category id k + 1, and the ids that
COCO does not use are classes without examples.

Deviations: images are padded to a multiple of the coarsest stride; effdet and automl pad them to a
square of the model's size, which zeros at the border do not see. In training, running statistics
move by a tenth a step; theirs by a hundredth. automl suppresses by decreasing scores (soft NMS).
effdet's D4 and D5 without ``tf_``, which have no weights, mix both paddings.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.bifpn import BiFPN
from zoo.layers.conv import Padding
from zoo.layers.norm import Norm
from zoo.models.backbones import freeze_mappings, make_backbone
from zoo.models.detection.parts.dense import DenseDecoding, DenseOutput, dense_output
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.towers import SeparableTower, per_anchor, separable_output
from zoo.models.detection.parts.trunk import trunk_strides
from zoo.ops.anchors import Anchors
from zoo.ops.box_coder import BoxCoder
from zoo.outputs import Targets
from zoo.types import Preprocessing

_CODER = BoxCoder(max_log_ratio=None)
# The best 5000 pairs of an anchor and a class, whatever their scores.
_DECODING = {"score_threshold": 0.0, "candidates": 5000, "per_level": False, "most": 100}


class EfficientDetHead(nn.Module):
    """A tower for classes and one for boxes, each with a separable convolution after it.

    Attributes:
        num_classes: Without a background.
        num_anchors: Anchors of a cell.
        num_convs: Convolutions of a tower.
        norm: Norm after each of them.
        norm_epsilon: Added to the variance in norms.
        bias: Whether they have a bias, too.
        dtype: Dtype of the towers; parameters and the outputs are float32.
    """

    num_classes: int
    num_anchors: int
    num_convs: int = 3
    norm: Norm = "batch"
    norm_epsilon: float = 1e-3
    bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ d"], ...], *, train: bool = False
    ) -> tuple[list[Float[Array, "b _ k"]], list[Float[Array, "b _ 4"]]]:
        """Logits and deltas of each level, ordered by row, column, and anchor of the cell."""
        fields = (self.num_convs, self.norm, self.norm_epsilon, self.bias, self.dtype)
        classes = SeparableTower(*fields, name="class_tower")(maps, train=train)
        boxes = SeparableTower(*fields, name="box_tower")(maps, train=train)
        logits = separable_output(self.num_anchors * self.num_classes, "logits", 0.01)
        deltas = separable_output(self.num_anchors * 4, "deltas")
        return per_anchor(logits, classes, self.num_classes), per_anchor(deltas, boxes, 4)


class EfficientDet(nn.Module):
    """Images to the class and box of every anchor.

    Attributes:
        num_classes: Number of classes, without a background; 90 for COCO (see above).
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name. Its batch norm is `norm`
            unless it is given here.
        finest_stride: Maps of the backbone with a smaller stride are not used.
        pyramid_dim: Features of the pyramid's maps and of the towers.
        num_cells: How often the pyramid sums all maps from coarse to fine and back.
        num_extra: Coarser levels than those of the backbone.
        weighted: Whether the sums have learned weights.
        num_convs: Convolutions of a tower.
        padding: Of what reduces maps in the pyramid: see `zoo.layers.bifpn.BiFPN`.
        bias: Whether convolutions of pyramid and towers with a norm after them have a bias, too, as
            weights that TensorFlow trained have.
        norm: Of all norms: ``batch``; ``frozen`` to fine-tune with few images a device.
        norm_epsilon: Added to the variance in the norms of pyramid and towers.
        anchor_size: Side of the smallest anchor of a level, in its strides.
        anchor_fields: Fields of `zoo.ops.anchors.Anchors` that replace EfficientDet's: three sizes
            in an octave, and three shapes.
        decoding_fields: Fields of `zoo.models.detection.parts.dense.DenseDecoding` that replace
            EfficientDet's: the best 5000 pairs of all levels, whatever their score, of which 100
            stay.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 90
    backbone: str = "efficientnet_b0"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    finest_stride: int = 8
    pyramid_dim: int = 64
    num_cells: int = 3
    num_extra: int = 2
    weighted: bool = True
    num_convs: int = 3
    padding: Padding = "symmetric"
    bias: bool = False
    norm: Norm = "batch"
    norm_epsilon: float = 1e-3
    anchor_size: float = 4.0
    anchor_fields: Mapping[str, Any] = FrozenDict()
    decoding_fields: Mapping[str, Any] = FrozenDict()
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        self.anchors = self.make_anchors(self.level_strides(self.body))
        self.pyramid = BiFPN(
            self.pyramid_dim,
            self.num_cells,
            self.num_extra,
            self.weighted,
            self.padding,
            self.norm,
            self.norm_epsilon,
            self.bias,
            self.dtype,
        )
        self.head = EfficientDetHead(
            self.num_classes,
            self.anchors.num_per_cell,
            self.num_convs,
            self.norm,
            self.norm_epsilon,
            self.bias,
            self.dtype,
        )

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        body = make_backbone(self.backbone, self.backbone_fields, self.dtype)
        if getattr(body, "norm", None) == "batch" and "norm" not in self.backbone_fields:
            return body.clone(norm=self.norm)
        return body

    @nn.nowrap
    def level_strides(self, body: Any) -> tuple[int, ...]:
        """Strides of the pyramid's maps on a backbone."""
        used = sum(stride >= self.finest_stride for stride in body.feature_strides)
        return trunk_strides(body, self.finest_stride, used + self.num_extra)

    @nn.nowrap
    def make_anchors(self, strides: tuple[int, ...]) -> Anchors:
        """The anchors of levels with these strides."""
        octave = [2 ** (k / 3) for k in range(3)]
        fields: dict[str, Any] = {
            "sizes": tuple(tuple(self.anchor_size * s * part for part in octave) for s in strides),
            "shapes": ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)),
            "strides": strides,
            "offset": 0.5,
            "order": "size",
        }
        return Anchors(**{**fields, **self.anchor_fields})

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The pyramid's maps of images whose sides are multiples of the coarsest stride."""
        maps = self.body.feature_maps(images, train=train)
        used = zip(self.body.feature_strides, maps, strict=True)
        return self.pyramid(tuple(x for s, x in used if s >= self.finest_stride), train=train)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> DenseOutput:
        """Predictions for normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm is in training.
        """
        del targets
        images, _ = pad_images(images, valid, self.level_strides(self.body)[-1])
        maps = self.features(images, train=train)
        logits, deltas = self.head(maps, train=train)
        decoding = DenseDecoding(coder=_CODER, **{**_DECODING, **self.decoding_fields})
        return dense_output(images, maps, self.anchors, logits, deltas, decoding)
