"""How many of the objects the proposals of detection data find."""

import numpy as np
from jaxtyping import Float

from zoo.data.object_sources import DetectionSource
from zoo.data.proposals import ProposalTable


def describe_proposals(source: DetectionSource, table: ProposalTable, indices: list[int]) -> str:
    """The number of proposals of an image, and the share of objects that one of them overlaps.

    Args:
        source: The images.
        table: Their proposals.
        indices: The images to look at.
    """
    best = [np.zeros(0)]
    for index in indices:
        found = source.annotations(index)
        best.append(_best_overlap(found.boxes[found.targets], table[index]))
    overlaps, count = np.concatenate(best), np.mean([len(table[index]) for index in indices])
    shares = [f"{(overlaps >= least).mean():.3f}" if len(overlaps) else "-" for least in (0.5, 0.7)]
    return (
        f"{count:.0f} proposals of an image; {shares[0]} of the objects overlap one with an IoU of"
        f" 0.5 or more, {shares[1]} with 0.7"
    )


def _best_overlap(
    boxes: Float[np.ndarray, "m 4"], proposals: Float[np.ndarray, "r 4"]
) -> Float[np.ndarray, " m"]:
    """The highest IoU of each box with a proposal; 0 without any."""
    a, b = boxes[:, None], proposals[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(0).prod(axis=-1)
    areas = [(x[..., 2:] - x[..., :2]).prod(axis=-1) for x in (a, b)]
    return (common / np.maximum(areas[0] + areas[1] - common, 1e-9)).max(axis=1, initial=0)
