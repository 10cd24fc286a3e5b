"""SPP-net: regions of any size are pooled into a pyramid of bins from maps of the whole image.

Paper: "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition", arXiv
1406.4729, section 4. Reference: https://github.com/ShaoqingRen/SPP_net, for the rounding of boxes
to cells and for the numbers.

Only the dense layers are fine-tuned (section 4.1): set the learning rate of the backbone to zero,
as the recipe does. After it, `train.svms` fits SVMs and box regressions.

Deviations: the image is enlarged on the device, without antialiasing, by the factors of `scales`
instead of to fixed sizes of its shorter side; the authors' boxes are moved by offsets that depend
on their network; there is no dropout. Without proposals, a fixed grid of windows is classified.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.models.backbones import freeze_mappings, make_frozen_backbone
from zoo.models.detection.parts.given_regions import ChosenRegions
from zoo.models.detection.parts.inputs import Padded
from zoo.models.detection.parts.outputs import RegionOutput
from zoo.models.detection.parts.region_classifier import (
    Classifier,
    RegionClassifier,
    classify_regions,
)
from zoo.ops import boxes as box_ops
from zoo.ops.roi_pool import spatial_pyramid_pool
from zoo.outputs import Proposals, Targets
from zoo.types import Preprocessing


class SPPNet(nn.Module):
    """Images and proposals to classes.

    Attributes:
        num_classes: Number of classes, without the background; 20 for PASCAL VOC.
        classifier: As in `zoo.models.detection.parts.region_classifier.RegionClassifier`.
        backbone: Name of a registered backbone, whose last map is pooled.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        scales: Factors of the image's size. Each region is pooled from the map of the scale at
            which its area is nearest to that of a square of `canonical_size`.
        canonical_size: See there, in pixels.
        bins: Bins in a row and a column of each grid of the pyramid.
        dense_dims: Features of the dense layers.
        window_fields: Fields of `zoo.ops.anchors.Anchors`, with strides: the windows that are
            classified if there are no proposals.
        roi_sampling: Fields of `zoo.models.detection.parts.samples.RoiSampling`.
        decoding_fields: Fields of `zoo.models.detection.parts.decode.RoiDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 20
    classifier: Classifier = "softmax"
    backbone: str = "resnet50"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm_epsilon: float | None = None
    scales: tuple[float, ...] = (1.0,)
    canonical_size: float = 224.0
    bins: tuple[int, ...] = (6, 3, 2, 1)
    dense_dims: tuple[int, ...] = (4096, 4096)
    window_fields: Mapping[str, Any] = FrozenDict({"sizes": ((128, 256),), "strides": (32,)})
    roi_sampling: Mapping[str, Any] = FrozenDict()
    decoding_fields: Mapping[str, Any] = FrozenDict({"iou_threshold": 0.3})
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
        self.head = RegionClassifier(self.num_classes, self.classifier, self.dense_dims, self.dtype)

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = self.backbone_fields
        return make_frozen_backbone(self.backbone, fields, self.dtype, self.norm_epsilon)

    def pool(
        self, padded: Padded, regions: ChosenRegions, *, train: bool = False
    ) -> Float[Array, "b r d"]:
        """The pooled features of regions, which box regression uses."""
        b, height, width, c = padded.images.shape
        maps, strides = [], []
        for scale in self.scales:
            size = (b, round(height * scale), round(width * scale), c)
            images = jax.image.resize(padded.images, size, "bilinear", antialias=False)
            maps.append(self.body.feature_maps(images, train=train)[-1])
            strides.append(self.body.feature_strides[-1] / scale)
        levels = jnp.where(regions.valid, self.scale_of(regions.boxes), -1)
        pooled = spatial_pyramid_pool(maps, regions.boxes, levels, strides=strides, bins=self.bins)
        return pooled.reshape(*levels.shape, -1)

    @nn.nowrap
    def scale_of(self, boxes: Float[Array, "b r 4"]) -> Int[Array, "b r"]:
        """The number of the scale at which a box is nearest to the canonical size."""
        sides = jnp.sqrt(box_ops.area(boxes))[..., None] * jnp.array(self.scales)
        return jnp.abs(sides**2 - self.canonical_size**2).argmin(axis=-1).astype(jnp.int32)

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
        return classify_regions(self, images, valid, proposals, targets, train=train)
