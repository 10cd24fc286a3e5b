"""Boxes as distances from a point to their four sides, as FCOS regresses them."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class DistanceCoder:
    """Encodes and decodes distances (FCOS, arXiv 1904.01355, equation 1).

    The point is the centre of a square anchor whose side is the stride of the level.

    >>> coder, anchor = DistanceCoder(), jnp.array([[0.0, 0.0, 8.0, 8.0]])
    >>> distances = coder.encode(jnp.array([[0.0, 2.0, 20.0, 12.0]]), anchor)
    >>> distances.tolist(), coder.decode(distances, anchor).tolist()
    ([[0.5, 0.25, 2.0, 1.0]], [[0.0, 2.0, 20.0, 12.0]])

    Attributes:
        relative: Whether distances are multiples of the anchor's side; else they are in pixels.
    """

    relative: bool = True

    def encode(
        self, boxes: Float[Array, "... 4"], anchors: Float[Array, "... 4"]
    ) -> Float[Array, "... 4"]:
        """The distances from the anchors' centres to the left, top, right and bottom side.

        Args:
            boxes: ``xyxy``.
            anchors: ``xyxy``, in the same unit.

        Returns:
            A negative distance is that of a side on the wrong side of the point.
        """
        centre, side = _centre_and_side(anchors)
        low, high = jnp.split(boxes, 2, axis=-1)
        distances = jnp.concatenate([centre - low, high - centre], axis=-1)
        return distances / side if self.relative else distances

    def decode(
        self, deltas: Float[Array, "... 4"], anchors: Float[Array, "... 4"]
    ) -> Float[Array, "... 4"]:
        """The boxes at these distances, ``xyxy`` in the unit of the anchors; not clipped."""
        centre, side = _centre_and_side(anchors)
        low, high = jnp.split(deltas * side if self.relative else deltas, 2, axis=-1)
        return jnp.concatenate([centre - low, centre + high], axis=-1)


def _centre_and_side(
    anchors: Float[Array, "*b 4"],
) -> tuple[Float[Array, "*b 2"], Float[Array, "*b 1"]]:
    """Centre (x, y) and width."""
    low, high = jnp.split(anchors, 2, axis=-1)
    return (low + high) / 2, (high - low)[..., :1]
