"""Fast R-CNN: the image goes through the network once, and each region is pooled from its maps.

Paper: "Fast R-CNN", arXiv 1504.08083; on a feature pyramid: arXiv 1612.03144, section 5.2.
References: detectron2's `GeneralizedRCNN` with `PrecomputedProposals`, with which outputs agree;
the authors' https://github.com/rbgirshick/fast-rcnn for the numbers of the paper's form.

Deviations: there is no truncated SVD of the dense layers (section 3.1). Boxes have no width of
``x2 - x1 + 1``. Without proposals, a fixed grid of windows is classified (see section 5.5).
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.norm import Norm
from zoo.layers.pyramid import FPN
from zoo.models.backbones import freeze_mappings, make_frozen_backbone
from zoo.models.detection.parts.box_head import BoxBranch
from zoo.models.detection.parts.given_regions import choose_regions
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.outputs import RegionOutput
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.outputs import Proposals, Targets
from zoo.types import Preprocessing


class FastRCNN(nn.Module):
    """Images and proposals to classes and boxes.

    Attributes:
        num_classes: Number of classes, without the background; 80 for COCO.
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        neck: ``fpn``: regions are pooled from a pyramid. ``none``: from the backbone's last map, as
            in the paper.
        pyramid_dim: Features of the pyramid's maps.
        pooling_fields: Fields of `zoo.models.detection.parts.pooling.RoiPooling`.
        box_conv_dims: Features of the convolutions of the box head.
        box_dims: Features of its dense layers.
        box_norm: Norm after its convolutions; None for none.
        window_fields: Fields of `zoo.ops.anchors.Anchors`, with strides: the windows that are
            classified if there are no proposals.
        roi_sampling: Fields of `zoo.models.detection.parts.samples.RoiSampling`.
        decoding_fields: Fields of `zoo.models.detection.parts.decode.RoiDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    backbone: str = "resnet50"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm_epsilon: float | None = None
    neck: Literal["fpn", "none"] = "fpn"
    pyramid_dim: int = 256
    pooling_fields: Mapping[str, Any] = FrozenDict()
    box_conv_dims: tuple[int, ...] = ()
    box_dims: tuple[int, ...] = (1024, 1024)
    box_norm: Norm | None = None
    window_fields: Mapping[str, Any] = FrozenDict({"sizes": ((128, 256),), "strides": (32,)})
    roi_sampling: Mapping[str, Any] = FrozenDict()
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
        if self.neck == "fpn":
            self.pyramid = FPN(self.pyramid_dim, dtype=self.dtype)
        self.box = BoxBranch(
            self.num_classes,
            RoiPooling(**self.pooling_fields),
            self.box_conv_dims,
            self.box_dims,
            self.box_norm,
            dtype=self.dtype,
        )

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = self.backbone_fields
        return make_frozen_backbone(self.backbone, fields, self.dtype, self.norm_epsilon)

    def maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[tuple[Float[Array, "b _ _ d"], ...], tuple[int, ...]]:
        """The maps of images that regions are pooled from, finest first, and their strides."""
        maps, strides = self.body.feature_maps(images, train=train), self.body.feature_strides
        if self.neck == "none":
            return maps[-1:], strides[-1:]
        return self.pyramid(maps, train=train), strides

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        proposals: Proposals | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> RegionOutput:
        """Predictions for the regions of normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            proposals: The regions; a grid of windows if absent.
            targets: The objects. In training, regions are sampled with them.
            train: Whether batch norm is in training. Sampling needs the stream ``sample``; without
                it the first regions are taken, not random ones.
        """
        padded = pad_images(images, valid, 32 if self.neck == "fpn" else 1)
        regions = choose_regions(self, proposals, padded, targets, train=train)
        maps, strides = self.maps(padded.images, train=train)
        logits, deltas = self.box(maps, strides, regions.boxes, regions.valid, train=train)
        return RegionOutput(
            *(regions.boxes, regions.valid, logits, deltas, regions.samples),
            decoding_fields=self.decoding_fields,
        )
