"""The loss of Keypoint R-CNN (arXiv 1703.06870, section 5)."""

import dataclasses

import jax.numpy as jnp
import optax

from zoo.losses.mean import Mean, Means
from zoo.models.detection.keypoint_rcnn.model import KeypointRCNNOutput
from zoo.models.detection.parts.losses import TwoStageLoss, required
from zoo.models.detection.parts.samples import take_object
from zoo.ops.roi_keypoints import keypoint_targets
from zoo.outputs import Targets
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class KeypointRCNNLoss(TwoStageLoss):
    """The loss of a Faster R-CNN, and that of the joints; the defaults are torchvision's.

    The loss of the joints is the cross-entropy over the cells of their heat maps. Joints that are
    not labelled, or not in the region, do not count; it is 0 if none counts. detectron2's
    configurations for people have ``box_beta=0.5``.

    Attributes:
        keypoint_weight: Weight of the joints.
        fixed_keypoint_normaliser: Whether their loss is divided by the largest possible number of
            joints, as one of detectron2's options does, and not by the number of those that count.
    """

    keypoint_weight: float = 1.0
    fixed_keypoint_normaliser: bool = False

    def __call__(self, output: KeypointRCNNOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a training step with targets.

        Raises:
            InputError: If the data have no keypoints.
        """
        losses, metrics = super().__call__(output, targets)
        keypoints, accuracy = self.of_keypoints(output, targets)
        return {**losses, "keypoint": keypoints}, {**metrics, "keypoint_accuracy": accuracy}

    def of_keypoints(self, output: KeypointRCNNOutput, targets: Targets) -> tuple[Mean, Mean]:
        """The loss of the joints, and the share of those that are found in the right cell."""
        if targets.keypoints is None:
            raise InputError(
                "Keypoint R-CNN learns keypoints: set data.keypoints=true, with data that has them"
            )
        samples = required(output.roi_samples)
        b, rows, size, _, joints = output.keypoint_logits.shape
        truth = take_object(targets.keypoints, samples.match[:, :rows])
        cells, counted = keypoint_targets(truth, samples.boxes[:, :rows], size=size)
        positive = samples.positive[:, :rows] & targets.image_valid[:, None]
        counted &= positive[..., None]

        logits = output.keypoint_logits.astype(jnp.float32).reshape(b, rows, size**2, joints)
        logits = logits.swapaxes(2, 3)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, cells)
        loss, hits = Mean.of(entropy, counted), Mean.of(logits.argmax(axis=-1) == cells, counted)
        weight = loss.weight
        if self.fixed_keypoint_normaliser:
            weight = targets.image_valid.sum(dtype=jnp.float32) * rows * joints
        return Mean(self.keypoint_weight * loss.total, weight), hits
