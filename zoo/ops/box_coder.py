"""Box deltas: a box relative to an anchor or proposal, as R-CNN and its kin regress it.

The deltas are the shift of the centre in widths and heights of the anchor, and the logarithms of
the ratios of width and height (arXiv 1311.2524, appendix C).
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.ops import boxes as box_ops

MAX_LOG_RATIO = math.log(1000 / 16)  # of torchvision, detectron2 and mmdet


@dataclasses.dataclass(frozen=True)
class BoxCoder:
    """Encodes and decodes deltas.

    >>> coder, anchor = BoxCoder(), jnp.array([[0.0, 0.0, 10.0, 20.0]])
    >>> deltas = coder.encode(jnp.array([[5.0, 0.0, 15.0, 20.0]]), anchor)
    >>> deltas.tolist(), coder.decode(deltas, anchor).tolist()
    ([[0.5, 0.0, 0.0, 0.0]], [[5.0, 0.0, 15.0, 20.0]])

    Attributes:
        weights: Factors of dx, dy, dw, dh: 1 for region proposals and dense detectors; 10, 10, 5, 5
            for the heads of two-stage detectors.
        max_log_ratio: Decoding clamps dw and dh to at most this, so that the exponential stays
            finite; None clamps nothing, as in py-faster-rcnn.
        clamp_small: Whether decoding clamps dw and dh to at least ``-max_log_ratio`` as well, as
            mmdet does.
        legacy: Caffe's widths: x2 - x1 + 1, with the centre at x1 + width / 2. Decoding what was
            encoded then gives right and bottom edges that are one pixel further, as it does in
            py-faster-rcnn.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    max_log_ratio: float | None = MAX_LOG_RATIO
    clamp_small: bool = False
    legacy: bool = False

    def encode(
        self, boxes: Float[Array, "... 4"], anchors: Float[Array, "... 4"]
    ) -> Float[Array, "... 4"]:
        """The deltas of boxes relative to anchors.

        Args:
            boxes: ``xyxy``.
            anchors: ``xyxy``, in the same unit.

        Returns:
            dx, dy, dw, dh, times the weights. 0, with gradients of 0, where the box or its anchor
            is padding: not finite, or without width or height.
        """
        real = self._has_size(boxes) & self._has_size(anchors)
        one = jnp.array([0.0, 0.0, 1.0, 1.0], boxes.dtype)
        centre, size = self._centre_and_size(jnp.where(real[..., None], boxes, one))
        start, scale = self._centre_and_size(jnp.where(real[..., None], anchors, one))
        deltas = jnp.concatenate([(centre - start) / scale, jnp.log(size / scale)], axis=-1)
        return deltas * jnp.array(self.weights, deltas.dtype)

    def decode(
        self, deltas: Float[Array, "... 4"], anchors: Float[Array, "... 4"]
    ) -> Float[Array, "... 4"]:
        """The boxes that deltas relative to anchors describe.

        Args:
            deltas: dx, dy, dw, dh, times the weights. With one set of deltas for each class, give
                the anchors an axis of length 1 for the classes.
            anchors: ``xyxy``. The box of an anchor without width or height has none either.

        Returns:
            ``xyxy`` in the unit of the anchors; not clipped to the image.
        """
        start, scale = self._centre_and_size(anchors)
        shift, log_ratio = jnp.split(deltas / jnp.array(self.weights, deltas.dtype), 2, axis=-1)
        if self.max_log_ratio is not None:
            least = -self.max_log_ratio if self.clamp_small else None
            log_ratio = jnp.clip(log_ratio, least, self.max_log_ratio)
        centre, half = start + shift * scale, jnp.exp(log_ratio) * scale / 2
        return jnp.concatenate([centre - half, centre + half], axis=-1)

    def _has_size(self, boxes: Float[Array, "*b 4"]) -> Array:
        """False for padding."""
        if self.legacy:
            boxes = boxes + jnp.array([0.0, 0.0, 1.0, 1.0], boxes.dtype)
        return box_ops.is_valid(boxes)

    def _centre_and_size(
        self, boxes: Float[Array, "*b 4"]
    ) -> tuple[Float[Array, "*b 2"], Float[Array, "*b 2"]]:
        """Centre (x, y), and width and height."""
        low, high = jnp.split(boxes, 2, axis=-1)
        size = high - low + 1 if self.legacy else high - low
        return low + size / 2, size
