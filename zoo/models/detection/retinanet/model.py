"""RetinaNet.

Paper: "Focal Loss for Dense Object Detection", arXiv 1708.02002, figure 3. The second version of
torchvision's has group norm in the towers, as in arXiv 1912.02424. References: torchvision's,
detectron2's and mmdet's `RetinaNet`, with which outputs agree.

Labels count the classes from 0. torchvision's files have 91 columns, for the background, which is
never a positive example, and for COCO's category ids 1 to 90: label k is category id k + 1, and the
ids that COCO does not use are classes without examples.

Deviations: the column of the background is not read, and is written so that it is never found.
mmdet also limits how much smaller than its anchor a box becomes, to 16 / 1000.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.norm import Norm
from zoo.layers.pyramid import Extra
from zoo.models.backbones import freeze_mappings
from zoo.models.detection.parts.dense import DenseDecoding, DenseOutput, dense_output
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.towers import Tower, output_conv, per_anchor
from zoo.models.detection.parts.trunk import PyramidTrunk
from zoo.ops.anchors import Anchors
from zoo.outputs import Targets
from zoo.types import Preprocessing

# Three sizes a level; torchvision cuts off their fractions.
_SIZES = tuple(
    tuple(int(side * 2 ** (k / 3)) for k in range(3)) for side in (32, 64, 128, 256, 512)
)


class RetinaNetHead(nn.Module):
    """A tower for classes and one for boxes.

    Attributes:
        num_classes: Without the background.
        num_anchors: Anchors of a cell.
        num_convs: Convolutions of a tower.
        norm: Norm after each, which then has no bias; None for none.
        dtype: Dtype of the towers; parameters and the outputs are float32.
    """

    num_classes: int
    num_anchors: int
    num_convs: int = 4
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ d"], ...], *, train: bool = False
    ) -> tuple[list[Float[Array, "b _ k"]], list[Float[Array, "b _ 4"]]]:
        """Logits and deltas of each level, ordered by row, column, and anchor of the cell."""
        fields = (self.num_convs, self.norm, self.norm is None, self.dtype)
        classes = Tower(*fields, name="class_tower")(maps, train=train)
        boxes = Tower(*fields, name="box_tower")(maps, train=train)
        logits = output_conv(self.num_anchors * self.num_classes, "logits", 0.01)
        deltas = output_conv(self.num_anchors * 4, "deltas")
        return per_anchor(logits, classes, self.num_classes), per_anchor(deltas, boxes, 4)


class RetinaNet(nn.Module):
    """Images to the class and box of every anchor.

    Attributes:
        num_classes: Number of classes, without the background; 90 for COCO in torchvision's files
            (see above), 80 in the others'.
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        finest_stride: Maps of the backbone with a smaller stride are not used.
        pyramid_dim: Features of the pyramid's maps and of the towers.
        num_extra: Coarser levels than those of the backbone.
        extra: Whether the first of them is a convolution of the backbone's coarsest map (``input``)
            or of the pyramid's (``output``).
        extra_relu: Whether a ReLU precedes the other ones; not in mmdet.
        num_convs: Convolutions of a tower.
        head_norm: Norm in the towers; None for none.
        anchor_fields: Fields of `zoo.ops.anchors.Anchors`.
        decoding_fields: Fields of `zoo.models.detection.parts.dense.DenseDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 90
    backbone: str = "resnet50"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm_epsilon: float | None = None
    finest_stride: int = 8
    pyramid_dim: int = 256
    num_extra: int = 2
    extra: Extra = "output"
    extra_relu: bool = True
    num_convs: int = 4
    head_norm: Norm | None = None
    anchor_fields: Mapping[str, Any] = FrozenDict({"sizes": _SIZES, "rounded": True})
    decoding_fields: Mapping[str, Any] = FrozenDict()
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules; those of the trunk are ``body`` and ``pyramid``."""
        self.trunk = self.make_trunk()
        nn.share_scope(self, self.trunk)
        self.anchors = Anchors(**self.anchor_fields)
        self.head = RetinaNetHead(
            self.num_classes,
            self.anchors.num_per_cell,
            self.num_convs,
            self.head_norm,
            self.dtype,
        )

    @nn.nowrap
    def make_trunk(self) -> PyramidTrunk:
        """What makes the maps of the pyramid."""
        return PyramidTrunk(
            self.backbone,
            self.backbone_fields,
            self.norm_epsilon,
            self.finest_stride,
            self.pyramid_dim,
            num_extra=self.num_extra,
            extra=self.extra,
            extra_relu=self.extra_relu,
            dtype=self.dtype,
        )

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone: see `PyramidTrunk.make_body`."""
        return self.make_trunk().make_body()

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The pyramid's maps of images whose height and width are multiples of 32."""
        return self.trunk(images, train=train)

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
        images, _ = pad_images(images, valid, 32)
        maps = self.features(images, train=train)
        logits, deltas = self.head(maps, train=train)
        decoding = DenseDecoding(**self.decoding_fields)
        return dense_output(images, maps, self.anchors, logits, deltas, decoding)
