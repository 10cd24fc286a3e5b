"""Coders of boxes in the cells of a grid, as the YOLO detectors regress them."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LEAST = 1e-6  # of a target; mmdet's number


@dataclasses.dataclass(frozen=True)
class GridCoder:
    """YOLO v2 and v3 (arXiv 1612.08242, figure 3): relative to a cell and to an anchor.

    The sigmoid of the first two numbers is the place of the centre in the cell; the exponentials of
    the others are factors of the anchor's width and height. Reference: mmdet's `YOLOBBoxCoder`.

    >>> coder, anchor = GridCoder(), jnp.array([[0.0, 0.0, 8.0, 4.0]])
    >>> coder.decode(jnp.zeros((1, 4)), anchor, jnp.array([[8.0]])).tolist()
    [[0.0, 0.0, 8.0, 4.0]]
    """

    def decode(
        self,
        deltas: Float[Array, "... a 4"],
        anchors: Float[Array, "... a 4"],
        strides: Float[Array, "a 1"],
    ) -> Float[Array, "... a 4"]:
        """The boxes that the outputs of a detector describe.

        Args:
            deltas: x, y, before the sigmoid, and logarithms of the factors of width and height.
            anchors: ``xyxy`` in pixels, in the middle of their cells.
            strides: Height and width of the cells in pixels.

        Returns:
            ``xyxy`` in pixels; not clipped to the image.
        """
        low, high = jnp.split(anchors, 2, axis=-1)
        place = jax.nn.sigmoid(deltas[..., :2]) - 0.5
        centre = (low + high) / 2 + place * strides
        half = jnp.exp(deltas[..., 2:]) * (high - low) / 2
        return jnp.concatenate([centre - half, centre + half], axis=-1)

    def encode(
        self,
        boxes: Float[Array, "... a 4"],
        anchors: Float[Array, "... a 4"],
        strides: Float[Array, "a 1"],
    ) -> Float[Array, "... a 4"]:
        """What the sigmoids and the logarithms should be for boxes.

        Args:
            boxes: ``xyxy`` in pixels. Where they are padding the result is finite.
            anchors: As in `decode`.
            strides: As in `decode`.

        Returns:
            x and y in the cell, 1e-6 .. 1 - 1e-6, and the logarithms of the factors.
        """
        (low, high), (first, last) = (jnp.split(x, 2, axis=-1) for x in (boxes, anchors))
        place = ((low + high) - (first + last)) / 2 / strides + 0.5
        ratio = (high - low) / (last - first)
        place = jnp.clip(place, _LEAST, 1 - _LEAST)
        return jnp.concatenate([place, jnp.log(jnp.maximum(ratio, _LEAST))], axis=-1)


@dataclasses.dataclass(frozen=True)
class RootCoder:
    """YOLO v1 (arXiv 1506.02640, section 2): relative to a cell and to the image.

    The first two numbers are the place of the centre in the cell; the others are the square roots
    of the width and height as shares of the image.

    Attributes:
        image_size: Height and width of the image in pixels.
    """

    image_size: int = 448

    def decode(
        self,
        deltas: Float[Array, "... a 4"],
        anchors: Float[Array, "... a 4"],
        strides: Float[Array, "a 1"],
    ) -> Float[Array, "... a 4"]:
        """The boxes that the outputs of a detector describe; a root may be negative.

        Args:
            deltas: x, y, and roots of width and height.
            anchors: The cells, ``xyxy`` in pixels.
            strides: Their heights and widths in pixels.

        Returns:
            ``xyxy`` in pixels; not clipped to the image.
        """
        centre = anchors[..., :2] + deltas[..., :2] * strides
        half = deltas[..., 2:] ** 2 * self.image_size / 2
        return jnp.concatenate([centre - half, centre + half], axis=-1)

    def encode(
        self,
        boxes: Float[Array, "... a 4"],
        anchors: Float[Array, "... a 4"],
        strides: Float[Array, "a 1"],
    ) -> Float[Array, "... a 4"]:
        """The outputs that describe boxes, ``xyxy`` in pixels; see `decode` for the others."""
        low, high = jnp.split(boxes, 2, axis=-1)
        place = ((low + high) / 2 - anchors[..., :2]) / strides
        size = jnp.maximum(high - low, 0) / self.image_size
        return jnp.concatenate([place, jnp.sqrt(jnp.maximum(size, _LEAST))], axis=-1)
