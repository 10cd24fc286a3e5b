"""The regions of detectors that do not propose their own: given ones, or a grid of windows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from zoo.models.detection.parts.inputs import Padded, clip_to_sizes, sample_keys
from zoo.models.detection.parts.outputs import RoiSamples
from zoo.models.detection.parts.samples import RoiSampling
from zoo.ops.anchors import Anchors
from zoo.outputs import Proposals, Targets


class ChosenRegions(NamedTuple):
    """The regions that a detector classifies.

    Attributes:
        boxes: ``xyxy`` in pixels, within each image; without gradient.
        valid: False for filling.
        samples: In training with targets: the same regions, with their objects.
    """

    boxes: Float[Array, "b r 4"]
    valid: Bool[Array, "b r"]
    samples: RoiSamples | None


def choose_regions(
    module: Any,
    proposals: Proposals | None,
    padded: Padded,
    targets: Targets | None,
    *,
    train: bool,
) -> ChosenRegions:
    """The given regions, clipped to each image or, in training with targets, samples of them.

    Args:
        module: A detector, with `num_classes`, `window_fields` of `zoo.ops.anchors.Anchors`, which
            is the grid of windows that is used without proposals, and `roi_sampling`.
        proposals: The given regions.
        padded: The images.
        targets: The objects.
        train: Whether regions are sampled, if there are targets: with the stream ``sample``;
            without it, the first ones.
    """
    if proposals is None:
        proposals = windows(Anchors(**module.window_fields), padded)
    boxes = clip_to_sizes(jax.lax.stop_gradient(proposals.boxes), padded.sizes)
    valid = proposals.valid & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
    if not train or targets is None:
        return ChosenRegions(boxes, valid, None)
    sampling = RoiSampling(**module.roi_sampling)
    keys = sample_keys(module, len(boxes))
    samples = sampling(boxes, valid, targets, module.num_classes, keys)
    return ChosenRegions(samples.boxes, samples.drawn, samples)


def windows(anchors: Anchors, padded: Padded) -> Proposals:
    """A grid of windows over a batch; those of which no part is in the image are not valid.

    Fast R-CNN with dense boxes instead of proposals: arXiv 1504.08083, section 5.5.

    Args:
        anchors: The windows of one or several strides.
        padded: The images.
    """
    assert anchors.strides is not None
    b, height, width, _ = padded.images.shape
    shapes = [(-int(-height // s), -int(-width // s)) for s in anchors.strides]
    boxes = jnp.concatenate([jnp.asarray(level) for level in anchors.per_level(shapes)])
    boxes = clip_to_sizes(jnp.broadcast_to(boxes, (b, *boxes.shape)), padded.sizes)
    return Proposals(boxes, (boxes[..., 2:] > boxes[..., :2]).all(axis=-1))
