"""How many of the objects the proposals of detection data find."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from zoo.data.object_sources import DetectionSource
from zoo.data.proposals import ProposalTable
from zoo.ops.boxes import iou


def describe_proposals(source: DetectionSource, table: ProposalTable, indices: list[int]) -> str:
    """The number of proposals of an image, and the share of objects that one of them overlaps.

    Args:
        source: The images.
        table: Their proposals.
        indices: The images to look at.
    """
    found = [source.annotations(index) for index in indices]
    boxes, proposals = [one.boxes[one.targets] for one in found], [table[i] for i in indices]
    best = np.asarray(iou(_padded(boxes), _padded(proposals)).max(axis=-1, initial=0))
    overlaps = np.concatenate([row[: len(own)] for row, own in zip(best, boxes, strict=True)])
    shares = [f"{(overlaps >= least).mean():.3f}" if len(overlaps) else "-" for least in (0.5, 0.7)]
    return (
        f"{np.mean([len(one) for one in proposals]):.0f} proposals of an image; {shares[0]} of the"
        f" objects overlap one with an IoU of 0.5 or more, {shares[1]} with 0.7"
    )


def _padded(boxes: Sequence[Float[np.ndarray, "_ 4"]]) -> Float[Array, "n m 4"]:
    """The boxes of all images in one array, filled with boxes without area."""
    filled = np.zeros((len(boxes), max(map(len, boxes)), 4), np.float32)
    for row, own in zip(filled, boxes, strict=True):
        row[: len(own)] = own
    return jnp.asarray(filled)
