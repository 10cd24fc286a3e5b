"""R-FCN: a Faster R-CNN without layers of its own for regions.

Paper: "R-FCN: Object Detection via Region-based Fully Convolutional Networks", arXiv 1605.06409,
figure 3; hard examples: arXiv 1604.03540. Reference: YuwenXiong/py-R-FCN, in its form
``rfcn_end2end_ohem``, for numbers. Outputs agree with a definition in PyTorch that was written for
the tests, and the pooling with one in Python. The authors' weights exist as Caffe models only,
which are not read here.

Deviations: boxes end at the far edge of their last pixel; the authors' include it. Their four
further maps for the box of no object, which nothing uses, do not exist. Their anchors have rounded
sides, and their deltas of anchors are divided by standard deviations.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from zoo.models.classification.resnet.model import LastStages, ResNet, split
from zoo.models.detection.faster_rcnn.model import FasterRCNN
from zoo.models.detection.parts.outputs import Regions, RoiSamples
from zoo.models.detection.parts.rpn import RegionProposalNetwork
from zoo.models.detection.parts.samples import RoiSampling, relabel
from zoo.models.detection.rfcn.head import VotingBranch
from zoo.outputs import Targets
from zoo.types import InputError


class RFCN(FasterRCNN):
    """Images to proposals, and these to the means of votes for classes and boxes.

    Attributes:
        rpn_dim: Features of the convolution of the proposals' head.
        vote_dim: Features before the maps of votes.
        bins: Parts in a row and a column of a region, each with its own maps.
        score_all: Whether all proposals and true boxes are scored in training, of which the loss
            takes the worst; else only those that `roi_sampling` draws.
    """

    rpn_dim: int = 512
    vote_dim: int = 1024
    bins: int = 7
    score_all: bool = True

    def setup(self) -> None:
        """Makes the submodules; raises InputError if there is a neck."""
        if self.neck != "none":
            raise InputError(f"R-FCN has no pyramid: neck is {self.neck!r}, must be 'none'")
        super().setup()

    @nn.nowrap
    def body_and_stage(self) -> tuple[ResNet, Callable[..., LastStages]]:
        """As in `FasterRCNN`; dilation replaces the stride of the last stage."""
        net = self.make_net()
        if not isinstance(net, ResNet):
            raise InputError(f"R-FCN needs a ResNet, not {self.backbone}")
        return split(net.clone(dilated_stages=1), len(net.num_blocks) - 1)

    @nn.nowrap
    def make_rpn(self) -> RegionProposalNetwork:
        """What proposes regions."""
        return super().make_rpn().clone(dim=self.rpn_dim)

    def setup_heads(self) -> None:
        """Makes the head for classes and boxes."""
        stage = self.body_and_stage()[1]
        options = {"dim": self.vote_dim, "bins": self.bins, "dtype": self.dtype}
        self.box = VotingBranch(self.num_classes, stage, **options)

    def choose(self, regions: Regions, targets: Targets) -> RoiSamples:
        """The regions of training: all, with the true boxes, or as in `FasterRCNN`."""
        if not self.score_all:
            return super().choose(regions, targets)
        boxes = jnp.concatenate([regions.boxes, targets.boxes.astype(regions.boxes.dtype)], axis=1)
        valid = jnp.concatenate([regions.valid, targets.valid], axis=1)
        iou = RoiSampling(**self.roi_sampling).high
        return relabel(boxes, valid, targets, self.num_classes, iou)
