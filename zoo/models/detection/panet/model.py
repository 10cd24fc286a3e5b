"""PANet: a Mask R-CNN whose regions see all levels of a pyramid with a path from fine to coarse.

Paper: "Path Aggregation Network for Instance Segmentation", arXiv 1803.01534, figure 1. Reference:
the authors' code, ShuLiu1993/PANet, in the form of its ``e2e_panet_R-50-FPN_2x_mask``: group norm
everywhere but in the backbone, four convolutions in the box head. Outputs agree with a definition
in PyTorch that was written for the tests: the authors' own code needs a GPU and PyTorch 0.4.

Boxes end at the far edge of their last pixel, and not at the pixel as in the authors' code: its
anchors, and the regions that it pools, are shifted by that (`last_pixel`).

Deviations: boxes with less than a pixel in the image are dropped, while the authors' become one
pixel wide or high. The paper normalises over the batch. The authors resample a mask to a box that
ends one pixel earlier. Their dense layer for masks starts with a standard deviation of 0.01, ours
as torch's.
"""

from flax import linen as nn

from zoo.models.detection.mask_rcnn.model import MaskRCNN
from zoo.models.detection.panet.heads import AdaptiveBoxBranch, AdaptiveMaskBranch
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.types import InputError


class PANet(MaskRCNN):
    """Images to proposals, these to classes and boxes, and these to masks, from all levels.

    `neck` is ``panet``. The first of `box_conv_dims` and of `mask_conv_dims` is of the
    convolutions before the levels are fused; there is no `mask_dim`, since the transposed
    convolution has as many features as the last of `mask_conv_dims`.
    """

    def setup_heads(self) -> None:
        """Makes the head for classes and boxes; raises InputError for `mask_detail`."""
        if self.mask_detail:
            raise InputError("mask_detail is not for PANet, whose masks see every level")
        self.box = AdaptiveBoxBranch(
            self.num_classes,
            RoiPooling(**self.pooling_fields),
            self.box_conv_dims,
            self.box_dims,
            self.box_norm,
            self.dtype,
        )

    @nn.nowrap
    def make_mask(self) -> nn.Module:
        """The branch for masks."""
        return AdaptiveMaskBranch(
            self.num_classes,
            RoiPooling(**{**self.pooling_fields, "size": self.mask_pool_size}),
            self.mask_conv_dims,
            self.mask_norm,
            self.dtype,
        )
