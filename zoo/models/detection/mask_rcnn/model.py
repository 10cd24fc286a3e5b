"""Mask R-CNN: a Faster R-CNN that also finds the mask of each object.

Paper: "Mask R-CNN", arXiv 1703.06870. The second version of torchvision's: arXiv 2111.11429.
References: torchvision's `MaskRCNN` and detectron2's ``mask_rcnn_R_50_FPN_3x``, with which outputs
agree. Labels are those of `zoo.models.detection.faster_rcnn.model`.

Deviations: torchvision also has a mask for the background, which nothing uses: its parameters are
not read, and are written as zeros. The last layer starts small, as in detectron2.
"""

from collections.abc import Mapping
from typing import Any, no_type_check

from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, Int

from zoo.layers.norm import Norm
from zoo.models.detection.faster_rcnn.model import FasterRCNN, Features
from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.mask_head import MaskBranch
from zoo.models.detection.parts.objects import ObjectRegions, object_regions
from zoo.models.detection.parts.outputs import TwoStageOutput
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.models.detection.parts.samples import RoiSampling
from zoo.outputs import Detections, Targets
from zoo.types import InputError, Paste


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class MaskRCNNOutput(TwoStageOutput, kw_only=True):
    """What Mask R-CNN predicts; the first attributes are those of `TwoStageOutput`.

    Attributes:
        mask_logits: In training with targets, of the first regions, those that can be positive, and
            for the class of the object; else of the detections, and for their class.
        detections: The objects, without masks; None in training with targets.
    """

    mask_logits: Float[Array, "b n s s"]
    detections: Detections | None


class MaskRCNN(FasterRCNN):
    """Images to proposals, these to classes and boxes, and these to masks.

    Attributes:
        decoding_fields: Fields of `zoo.models.detection.parts.decode.RoiDecoding`, the rule by
            which classified regions become the objects whose masks are computed.
        mask_pool_size: Rows and columns of a region's features; its mask has twice as many. The
            other settings of pooling are those for boxes. With `neck` ``none`` it is not used: the
            mask head gets the maps that the box head's stage makes, of half its pooled size.
        mask_conv_dims: Features of the convolutions of the mask head.
        mask_dim: Features of its transposed convolution.
        mask_norm: Norm after its convolutions; None for none.
        mask_detail: Whether the mask head also gets the map of the backbone's stem, of stride 2,
            pooled in the same way, as in RefineMask (arXiv 2104.08569). Not for `neck` ``none``,
            and only for a backbone that has such a map, as a ResNet has.
        paste: How masks are resampled to the image: see `zoo.outputs.Detections`.
    """

    decoding_fields: Mapping[str, Any] = FrozenDict()
    mask_pool_size: int = 14
    mask_conv_dims: tuple[int, ...] = (256, 256, 256, 256)
    mask_dim: int = 256
    mask_norm: Norm | None = None
    mask_detail: bool = False
    paste: Paste = "whole_pixels"

    def setup(self) -> None:
        """Makes the submodules."""
        super().setup()
        self.mask = self.make_mask()

    @nn.nowrap
    def make_mask(self) -> nn.Module:
        """The branch for masks."""
        return MaskBranch(
            self.num_classes,
            RoiPooling(**{**self.pooling_fields, "size": self.mask_pool_size}),
            self.mask_conv_dims,
            self.mask_dim,
            self.mask_norm,
            dtype=self.dtype,
        )

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> MaskRCNNOutput:
        """Predictions for normalised images; `FasterRCNN` has the arguments."""
        features = self.features(images, valid, train=train)
        output = self.classify(features, targets, train=train)
        regions = self.objects(output, features.sizes)
        logits = self.masks(features, regions, train=train)
        found = regions.detections and regions.detections.replace(paste=self.paste)
        return MaskRCNNOutput(**output.shared(), mask_logits=logits, detections=found)

    def masks(
        self, features: Features, regions: ObjectRegions, *, train: bool = False
    ) -> Float[Array, "b r s s"]:
        """Logits of the masks; without a neck, of the maps that the box head's stage makes."""
        maps, boxes, used = (features.maps, self.pooled_strides), regions.boxes, regions.valid
        if self.neck == "none":
            stage = self.box.stage_maps(*maps, boxes, used, train=train)
            return self.mask.of_pooled(stage, used, regions.labels, train=train)
        return self.mask(*maps, boxes, used, regions.labels, features.stem, train=train)

    def body_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ s"] | None, tuple[Float[Array, "b _ _ _"], ...]]:
        """As that of `FasterRCNN`, with the stem's map for `mask_detail`.

        Raises:
            InputError: If the backbone has no such map.
        """
        if not self.mask_detail:
            return super().body_maps(images, train=train)
        if not hasattr(self.body, "pyramid"):
            raise InputError(f"mask_detail needs a ResNet, not {self.backbone}")
        stem, *maps = self.body.pyramid(images, train=train)
        return stem, tuple(maps)

    def objects(self, output: TwoStageOutput, sizes: Int[Array, "b 2"]) -> ObjectRegions:
        """The regions whose masks are computed: see `object_regions`."""
        rule = RoiDecoding(**self.decoding_fields)
        return object_regions(output, sizes, rule, RoiSampling(**self.roi_sampling).most_positive)
