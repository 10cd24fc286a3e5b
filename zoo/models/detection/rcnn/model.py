"""R-CNN: each region is cut out, warped to a square, and goes through the network on its own.

Paper: "Rich feature hierarchies for accurate object detection and semantic segmentation", arXiv
1311.2524. Reference: the authors' https://github.com/rbgirshick/rcnn, for the warp and the numbers.
The network is fine-tuned with a softmax; `train.svms` then fits SVMs and box regressions.

Deviations: see `zoo.ops.warp_regions` for one pixel of the warp; regions of training are sampled
from each image of a batch, not from all images of the data set; there is no dropout. Without
proposals, a fixed grid of windows is classified. A ResNet has no dense layers: its features are the
mean of the last map, for box regression too.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.models.backbones import freeze_mappings, make_frozen_backbone
from zoo.models.detection.parts.given_regions import ChosenRegions
from zoo.models.detection.parts.inputs import Padded
from zoo.models.detection.parts.outputs import RegionOutput
from zoo.models.detection.parts.region_classifier import (
    Classifier,
    RegionClassifier,
    classify_regions,
)
from zoo.ops.warp_regions import warp_regions
from zoo.outputs import Proposals, Targets
from zoo.types import Preprocessing


class RCNN(nn.Module):
    """Images and proposals to classes.

    Attributes:
        num_classes: Number of classes, without the background; 20 for PASCAL VOC.
        classifier: As in `zoo.models.detection.parts.region_classifier.RegionClassifier`.
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        crop_size: Side of the warped regions in pixels.
        context: Width of the margin around a region, as a share of `crop_size`.
        pool_size: Rows and columns to which the mean reduces the last map of a region; None: as
            many as it has.
        dense_dims: Features of the dense layers.
        chunk: Regions of each image that go through the network together; fewer need less memory.
            All of them do while batch norm is in training.
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
    crop_size: int = 224
    context: float = 16 / 227
    pool_size: int | None = 1
    dense_dims: tuple[int, ...] = ()
    chunk: int = 16
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
        """The features of the last map of each region, which box regression uses."""
        r = regions.boxes.shape[1]
        pieces = -(-r // self.chunk)
        if pieces < 2 or (train and getattr(self.body, "norm", None) == "batch"):
            return self.of_crops(padded, regions.boxes, train=train)

        def visit(
            module: RCNN, carry: None, boxes: Float[Array, "b s 4"]
        ) -> tuple[None, Float[Array, "b s d"]]:
            return carry, module.of_crops(padded, boxes, train=train)

        visit_all = nn.scan(
            nn.remat(visit, prevent_cse=False),
            variable_broadcast=("params", "batch_stats"),
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        boxes = jnp.pad(regions.boxes, ((0, 0), (0, pieces * self.chunk - r), (0, 0)))
        _, pooled = visit_all(self, None, boxes.reshape(-1, pieces, self.chunk, 4))
        return pooled.reshape(*pooled.shape[:1], pieces * self.chunk, -1)[:, :r]

    def of_crops(
        self, padded: Padded, boxes: Float[Array, "b r 4"], *, train: bool = False
    ) -> Float[Array, "b r d"]:
        """The features of regions that are cut out together."""
        b, r, _ = boxes.shape
        image = jnp.broadcast_to(jnp.arange(b)[:, None], (b, r)).reshape(-1)
        crops = warp_regions(
            padded.images,
            boxes.reshape(-1, 4),
            image,
            padded.sizes,
            size=self.crop_size,
            context=self.context,
        )
        x = self.body.feature_maps(crops, train=train)[-1]
        if (p := self.pool_size) is not None:
            n, rows, columns, d = x.shape
            x = x.reshape(n, p, rows // p, p, columns // p, d).mean(axis=(2, 4))
        return x.reshape(b, r, -1)

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
