"""TridentNet: a Faster R-CNN on one map, which three branches with different dilations compute.

Paper: "Scale-Aware Trident Networks for Object Detection", arXiv 1901.01892, figure 2. References:
detectron2's project TridentNet, with which outputs and losses agree, and mmdet's
`TridentFasterRCNN`; the authors' code in tusen-ai/simpledet, for the sizes of branches.

The branches share all weights, so they are rows of one batch: of t branches, row i belongs to
branch i modulo t. In training all are used, each for all objects or for those of its sizes; after
it, the middle one alone (section 3.4, "fast") or all, whose detections are merged.

Deviations: `valid_ranges` are pixels of the images that the model sees, the authors' those of the
images before resizing. Detections are suppressed within each branch before they are merged, as in
detectron2 and mmdet; the authors merge first.
"""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Shaped

from zoo.models.classification.resnet.model import LastStages, ResNet, split
from zoo.models.detection.faster_rcnn.model import FasterRCNN, Features
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.outputs import TwoStageOutput
from zoo.models.detection.parts.rpn import RegionProposalNetwork
from zoo.models.detection.tridentnet.ranges import RangedAnchors, RangedProposals, Ranges
from zoo.outputs import Targets
from zoo.types import InputError


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class TridentOutput(TwoStageOutput):
    """What TridentNet predicts; the first attributes are those of `TwoStageOutput`.

    Anchors, proposals and samples of an image are those of its branches, one after another.

    Attributes:
        num_branches: Number of branches that were used.
        valid_ranges: Sizes of their objects: see `TridentNet`; empty for all.
    """

    num_branches: int = struct.field(pytree_node=False, default=1)
    valid_ranges: Ranges = struct.field(pytree_node=False, default=())


class TridentNet(FasterRCNN):
    """Images to the maps of the branches, and these to proposals, classes and boxes.

    Attributes:
        branch_dilations: Dilation of the 3 x 3 convolutions of the last stage before the proposals,
            in each branch.
        test_branch: Number of the branch that is used outside training, from 0; None for all.
        valid_ranges: For each branch, the smallest and the largest square root of the area, in
            pixels, of the objects that it learns and finds; empty: all branches learn all objects,
            which is better if one branch is used alone. The paper's are ((0, 90), (30, 160),
            (90, inf)).
    """

    branch_dilations: tuple[int, ...] = (1, 2, 3)
    test_branch: int | None = 1
    valid_ranges: Ranges = ()

    def setup(self) -> None:
        """Makes the submodules.

        Raises:
            InputError: If there is a neck, no such `test_branch`, or no range for some branch.
        """
        count = len(self.branch_dilations)
        if self.neck != "none":
            raise InputError(f"TridentNet has no pyramid: neck is {self.neck!r}, must be 'none'")
        if self.test_branch is not None and not 0 <= self.test_branch < count:
            raise InputError(f"test_branch is {self.test_branch}, but there are {count} branches")
        if self.valid_ranges and len(self.valid_ranges) != count:
            raise InputError(f"valid_ranges has {len(self.valid_ranges)} of {count} branches")
        super().setup()
        self.trident = self._stages()[1]()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The stages before the branches."""
        return self._stages()[0]

    @nn.nowrap
    def _stages(self) -> tuple[ResNet, Callable[..., LastStages]]:
        """The stages before the branches, and what makes the stage that is in branches."""
        body, _ = self.body_and_stage()
        return split(body, len(body.num_blocks) - 1)

    @property
    def backbone_paths(self) -> tuple[str, ...]:
        """As in `FasterRCNN`."""
        return ("body", "trident", "box/stage")

    @nn.nowrap
    def make_rpn(self) -> RegionProposalNetwork:
        """As in `FasterRCNN`, with the sizes of the branches."""
        rpn = super().make_rpn()
        if not self.valid_ranges:
            return rpn
        return rpn.clone(
            rule=RangedProposals(**self.proposal_fields, ranges=self.valid_ranges),
            sampling=RangedAnchors(**self.anchor_sampling, ranges=self.valid_ranges),
        )

    @nn.nowrap
    def strides_of(self, body: nn.Module) -> tuple[int, ...]:
        """The stride of the branches' map."""
        return (2 * body.feature_strides[-1],)

    @nn.nowrap
    def branches(self, *, train: bool) -> tuple[int, ...]:
        """Dilations of the branches that are used."""
        if train or self.test_branch is None:
            return self.branch_dilations
        return (self.branch_dilations[self.test_branch],)

    def features(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        train: bool = False,
    ) -> Features:
        """The maps of all branches of normalised images: one map, of ``b * t`` rows."""
        images, sizes = pad_images(images, valid, 1)
        dilations = self.branches(train=train)
        x = self.body.feature_maps(images, train=train)[-1]
        x = jnp.repeat(x, len(dilations), axis=0)
        x = self.trident(x, dilations, train=train)
        sizes = jnp.repeat(sizes, len(dilations), axis=0)
        return Features((x,), (images.shape[1], images.shape[2]), sizes)

    def classify(
        self, features: Features, targets: Targets | None = None, *, train: bool = False
    ) -> TridentOutput:
        """The predictions of `__call__` for the features of the branches."""
        count = len(self.branches(train=train))
        if targets is not None:
            targets = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), targets)
        found = super().classify(features, targets, train=train)
        ranges = self.valid_ranges if count > 1 else ()
        return TridentOutput(**_joined(found, count), num_branches=count, valid_ranges=ranges)


def _joined(output: TwoStageOutput, count: int) -> dict[str, Any]:
    """The attributes of an output of ``b * t`` rows, with the branches one after another."""
    if samples := output.anchor_samples:
        branch = jnp.arange(len(samples.index)) % count
        first = branch[:, None] * output.rpn_logits.shape[1]
        output = output.replace(anchor_samples=samples.replace(index=samples.index + first))
    parts = output.shared()
    weights = parts.pop("coder_weights")
    joined = jax.tree.map(lambda x: join(x, count), parts)
    return {**joined, "coder_weights": weights}


def join(x: Shaped[Array, "bt n *d"], count: int) -> Shaped[Array, "b tn *d"]:
    """The candidates of `count` branches of an image, one branch after another."""
    return x.reshape(-1, count * x.shape[1], *x.shape[2:])


def part(x: Shaped[Array, "b tn *d"], count: int) -> Shaped[Array, "bt n *d"]:
    """Undoes `join`."""
    return x.reshape(-1, x.shape[1] // count, *x.shape[2:])
