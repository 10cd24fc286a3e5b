"""Cascade R-CNN with masks.

Paper: arXiv 1906.09756, the longer version of "Cascade R-CNN", section 5; masks: arXiv 1703.06870.
Reference: detectron2's ``cascade_mask_rcnn_R_50_FPN_3x``, with which outputs and losses agree: one
mask head, which is trained on the regions of the first stage.

Deviations: mmdet has a mask head in every stage, whose probabilities it averages.
"""

import jax
from jaxtyping import Array, Int

from zoo.models.detection.cascade_rcnn.model import CascadeRCNN
from zoo.models.detection.mask_rcnn.model import MaskRCNN
from zoo.models.detection.parts.cascade import CascadeOutput, cascade_rois
from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.objects import ObjectRegions


class CascadeMaskRCNN(MaskRCNN, CascadeRCNN):
    """Images to proposals, these in three stages to classes and boxes, and these to masks."""

    def objects(self, output: CascadeOutput, sizes: Int[Array, "b 2"]) -> ObjectRegions:
        """The regions whose masks are computed: in training with targets, the first stage's."""
        if output.roi_samples is not None:
            first = jax.tree.map(lambda x: x[:, 0], output.roi_samples)
            return super().objects(output.replace(roi_samples=first), sizes)
        rule = RoiDecoding(**self.decoding_fields)
        found = cascade_rois(jax.lax.stop_gradient(output), sizes, rule)
        return ObjectRegions(found.boxes, found.valid, found.labels, found)
