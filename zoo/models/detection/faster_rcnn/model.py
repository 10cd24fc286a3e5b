"""Faster R-CNN, on a feature pyramid or on one map.

Papers: "Faster R-CNN", arXiv 1506.01497; "Feature Pyramid Networks for Object Detection", arXiv
1612.03144, section 4. The second version of torchvision's: arXiv 2111.11429. References:
torchvision's `FasterRCNN` and detectron2's `GeneralizedRCNN`, with which outputs agree.

Labels count the classes from 0; the background is the last of the logits. torchvision's files have
91 rows, of the background and of COCO's category ids 1 to 90: label k is category id k + 1, and the
ids that COCO does not use are classes without examples.

Deviations: torchvision also regresses a box for the background, which nothing uses: its parameters
are not read, and are written as zeros. Norms of the backbone that are not trained have torch's
epsilon unless a file says otherwise. The padding of the images has no effect, whatever its values.
torchvision infers the strides of the pooled maps from the largest image, wrongly if that is small.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.layers.norm import Norm
from zoo.layers.pyramid import FPN, PAFPN
from zoo.models.backbones import freeze_mappings, make_frozen_backbone
from zoo.models.classification.resnet.model import LastStages, ResNet, split
from zoo.models.detection.parts.box_head import BoxBranch
from zoo.models.detection.parts.inputs import pad_images, sample_keys
from zoo.models.detection.parts.outputs import Regions, RoiSamples, TwoStageOutput
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.models.detection.parts.proposals import ProposalRule
from zoo.models.detection.parts.rpn import RegionProposalNetwork
from zoo.models.detection.parts.samples import AnchorSampling, RoiSampling
from zoo.ops.anchors import Anchors
from zoo.outputs import Targets
from zoo.types import InputError, Preprocessing

Neck = Literal["fpn", "pafpn", "panet", "none"]
_SIZES = ((32,), (64,), (128,), (256,), (512,))


class Features(NamedTuple):
    """The maps of a padded batch.

    Attributes:
        maps: Finest first; the extra ones of a pyramid, after those of the backbone, are for
            proposals only.
        image_shape: Height and width of the padded batch.
        sizes: Height and width of each image without padding.
        stem: The map of the backbone's stem, of stride 2, if a head needs it.
    """

    maps: tuple[Float[Array, "b _ _ d"], ...]
    image_shape: tuple[int, int]
    sizes: Int[Array, "b 2"]
    stem: Float[Array, "b _ _ s"] | None = None


class FasterRCNN(nn.Module):
    """Images to proposals, and these to classes and boxes.

    Detectors with further heads extend it: `features` and `propose` give what every head needs,
    `choose` the regions of training, and `pooled_strides` the maps that are pooled from.

    Attributes:
        num_classes: Number of classes, without the background; 90 for COCO in torchvision's files
            (see above), 80 in detectron2's.
        backbone: Name of a registered backbone; its maps are those of the pyramid.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        neck: What is between the backbone and the heads. ``fpn``, or ``pafpn`` and ``panet`` (arXiv
            1803.01534, in mmdet's and in the authors' form): a pyramid. ``none``, for a ResNet:
            proposals and regions are taken from the map before its last stage, and this stage is
            the head of the regions instead of convolutions and dense layers (arXiv 1512.03385,
            appendix A); the batch is not padded further.
        pyramid_dim: Features of the pyramid's maps.
        pyramid_norm: Norm in the pyramid; None for none.
        anchor_fields: Fields of `zoo.ops.anchors.Anchors`.
        rpn_convs: Convolutions of the proposals' head.
        proposal_fields: Fields of `zoo.models.detection.parts.proposals.ProposalRule`.
        anchor_sampling: Fields of `zoo.models.detection.parts.samples.AnchorSampling`.
        roi_sampling: Fields of `zoo.models.detection.parts.samples.RoiSampling`.
        pooling_fields: Fields of `zoo.models.detection.parts.pooling.RoiPooling`.
        box_conv_dims: Features of the convolutions of the box head.
        box_dims: Features of its dense layers.
        box_norm: Norm after its convolutions; None for none.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 90
    backbone: str = "resnet50"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm_epsilon: float | None = None
    neck: Neck = "fpn"
    pyramid_dim: int = 256
    pyramid_norm: Norm | None = None
    anchor_fields: Mapping[str, Any] = FrozenDict({"sizes": _SIZES, "rounded": True})
    rpn_convs: int = 1
    proposal_fields: Mapping[str, Any] = FrozenDict()
    anchor_sampling: Mapping[str, Any] = FrozenDict()
    roi_sampling: Mapping[str, Any] = FrozenDict()
    pooling_fields: Mapping[str, Any] = FrozenDict()
    box_conv_dims: tuple[int, ...] = ()
    box_dims: tuple[int, ...] = (1024, 1024)
    box_norm: Norm | None = None
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
        if self.neck != "none":
            kinds = {"fpn": FPN, "pafpn": partial(PAFPN, form="mmdet"), "panet": PAFPN}
            self.pyramid = kinds[self.neck](
                self.pyramid_dim, self.pyramid_norm, num_extra=1, dtype=self.dtype
            )
        self.rpn = self.make_rpn()
        self.setup_heads()

    def setup_heads(self) -> None:
        """Makes the submodules that regions go through."""
        self.box = self.make_box()

    @nn.nowrap
    def make_rpn(self) -> RegionProposalNetwork:
        """What proposes regions."""
        return RegionProposalNetwork(
            Anchors(**self.anchor_fields),
            ProposalRule(**self.proposal_fields),
            AnchorSampling(**self.anchor_sampling),
            self.rpn_convs,
            dtype=self.dtype,
        )

    @nn.nowrap
    def make_box(self, *, agnostic: bool = False) -> BoxBranch:
        """A head for regions.

        Args:
            agnostic: As in `BoxBranch`.
        """
        return BoxBranch(
            self.num_classes,
            RoiPooling(**self.pooling_fields),
            self.box_conv_dims,
            self.box_dims,
            self.box_norm,
            agnostic,
            self.dtype,
            self.body_and_stage()[1] if self.neck == "none" else None,
        )

    @nn.nowrap
    def make_net(self) -> nn.Module:
        """The backbone, without its head; `make_body` gives what is used as such.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = self.backbone_fields
        return make_frozen_backbone(self.backbone, fields, self.dtype, self.norm_epsilon)

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The part of the backbone that is applied to images.

        Raises:
            InputError: See `make_net`; or if there is no neck and it is no ResNet.
        """
        return self.body_and_stage()[0] if self.neck == "none" else self.make_net()

    @nn.nowrap
    def body_and_stage(self) -> tuple[ResNet, Callable[..., LastStages]]:
        """All stages of a ResNet but the last, and what makes this one.

        Raises:
            InputError: See `make_body`.
        """
        net = self.make_net()
        if not isinstance(net, ResNet):
            raise InputError(f"neck='none' needs a ResNet, not {self.backbone}")
        return split(net, len(net.num_blocks) - 1)

    def features(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        train: bool = False,
    ) -> Features:
        """The maps of normalised images, padded below and on the right."""
        images, sizes = pad_images(images, valid, 1 if self.neck == "none" else 32)
        stem, maps = self.body_maps(images, train=train)
        maps = maps[-1:] if self.neck == "none" else self.pyramid(maps, train=train)
        return Features(maps, (images.shape[1], images.shape[2]), sizes, stem)

    def body_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ s"] | None, tuple[Float[Array, "b _ _ _"], ...]]:
        """The map of the stem, if a head needs it, and the maps of the backbone, finest first."""
        return None, self.body.feature_maps(images, train=train)

    def propose(
        self, features: Features, targets: Targets | None = None, *, train: bool = False
    ) -> Regions:
        """The proposals and, in training with targets, the anchors of the losses."""
        return self.rpn(*features[:3], targets, train=train)

    def choose(self, regions: Regions, targets: Targets) -> RoiSamples:
        """The regions of training; without the stream ``sample``, the first ones."""
        sampling = RoiSampling(**self.roi_sampling)
        keys = sample_keys(self, len(regions.boxes))
        return sampling(regions.boxes, regions.valid, targets, self.num_classes, keys)

    @property
    def backbone_paths(self) -> tuple[str, ...]:
        """Paths of the submodules that have the backbone's layers, each some of them."""
        return ("body", "box/stage") if self.neck == "none" else ("body",)

    @property
    def pooled_strides(self) -> tuple[int, ...]:
        """Strides of the maps that regions are pooled from: those of the backbone."""
        return self.strides_of(self.body)

    @nn.nowrap
    def strides_of(self, body: nn.Module) -> tuple[int, ...]:
        """As `pooled_strides`, for the result of `make_body`."""
        return body.feature_strides[-1:] if self.neck == "none" else body.feature_strides

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> TwoStageOutput:
        """Predictions for normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects. In training, the anchors and regions of the losses are sampled
                with them, and the heads see these regions instead of the proposals.
            train: Whether batch norm is in training, and the numbers of proposals are those of
                training. Sampling needs the stream ``sample``; without it the first candidates are
                taken, not random ones.
        """
        return self.classify(self.features(images, valid, train=train), targets, train=train)

    def classify(
        self, features: Features, targets: Targets | None = None, *, train: bool = False
    ) -> TwoStageOutput:
        """The predictions of `__call__` for the features of a batch."""
        regions = self.propose(features, targets, train=train)
        boxes, used, samples = regions.boxes, regions.valid, None
        if train and targets is not None:
            samples = self.choose(regions, targets)
            boxes, used = samples.boxes, samples.drawn
        logits, deltas = self.box(features.maps, self.pooled_strides, boxes, used, train=train)
        return TwoStageOutput(
            regions.logits,
            regions.deltas,
            jnp.broadcast_to(regions.anchors, regions.deltas.shape),
            boxes,
            used,
            logits,
            deltas,
            regions.samples,
            samples,
        )
