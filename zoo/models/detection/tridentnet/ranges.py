"""Scale-aware training (TridentNet, arXiv 1901.01892, section 3.3): each branch has its sizes.

Reference: the authors' code in tusen-ai/simpledet, for what a branch ignores.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.proposals import ProposalRule
from zoo.models.detection.parts.samples import AnchorSampling
from zoo.ops import boxes as box_ops
from zoo.ops.assign import IouRule, assign_by_iou
from zoo.outputs import Targets

Ranges = tuple[tuple[int | float, int | float], ...]
"""For each branch, the smallest and the largest square root of a box's area, in pixels."""


def in_range(boxes: Float[Array, "bt n 4"], ranges: Ranges) -> Bool[Array, "bt n"]:
    """Whether boxes, ``xyxy`` in pixels, have a size of their branch.

    >>> boxes = jnp.array([[[0.0, 0.0, 50.0, 50.0]]] * 2)
    >>> in_range(boxes, ((0, 40), (30, 160))).tolist()
    [[False], [True]]

    Args:
        boxes: Of t branches: row i belongs to branch i modulo t.
        ranges: See `Ranges`.
    """
    low, high = jnp.array(ranges, boxes.dtype).T
    sizes = jnp.sqrt(box_ops.area(boxes)).reshape(-1, len(ranges), boxes.shape[1])
    return ((sizes >= low[:, None]) & (sizes <= high[:, None])).reshape(boxes.shape[:2])


@dataclasses.dataclass(frozen=True)
class RangedProposals(ProposalRule):
    """Proposals in training are of the sizes of their branch.

    Attributes:
        ranges: See `Ranges`.
    """

    ranges: Ranges = ()

    def allowed(self, boxes: Float[Array, "bt n 4"], *, train: bool) -> Bool[Array, "bt n"]:
        """As in `ProposalRule`."""
        found = super().allowed(boxes, train=train)
        return found & in_range(boxes, self.ranges) if train else found


@dataclasses.dataclass(frozen=True)
class RangedAnchors(AnchorSampling):
    """Anchors whose IoU with objects of other sizes is `ignored_iou` or more are not sampled.

    Attributes:
        ranges: See `Ranges`; an object of other sizes than those of a branch is ignored there.
    """

    ranges: Ranges = ()

    def assign(
        self, anchors: Float[Array, "bt a 4"], targets: Targets
    ) -> tuple[Int[Array, "bt a"], Int[Array, "bt a"]]:
        """As in `AnchorSampling`."""
        match, label = super().assign(anchors, targets)
        others = targets.valid & ~in_range(targets.boxes, self.ranges)
        rule = IouRule(self.ignored_iou, self.ignored_iou)
        _, near = assign_by_iou(anchors, targets.boxes, rule, truth_valid=others)
        return match, jnp.where(near == 1, -1, label)
