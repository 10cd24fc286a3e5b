"""Chips: parts of an image at several scales, in which objects of all sizes have middle sizes.

SNIPER (arXiv 1805.09300, section 3). Each scale has a range of sizes of objects, and a grid of
windows. The objects in the range are covered by as few windows as a greedy search finds; these are
the positive chips. Negative chips cover what a briefly trained detector proposes elsewhere.

Reference: mahyarnajibi/SNIPER. Deviations: its windows are 56 to 59 pixels of the chip apart, drawn
anew for each epoch, not the paper's 32; it leaves out objects whose longer side does not fit into
each grid's window, here they count if a window has them; it draws two negative chips of an image
for each epoch, here they are those with the most proposals.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from zoo.data.augment.picture import Size

Windows = Int[np.ndarray, "c 4"]  # left, top, right, bottom in whole pixels of the image


@dataclasses.dataclass(frozen=True)
class ChipScale:
    """One of the scales at which chips are cut out.

    The sizes are square roots of the areas of boxes, in pixels of the original image.

    Attributes:
        factor: How much the image is enlarged; or None, and `long_side` is given.
        long_side: The length of its longer side after that.
        smallest: Objects of this size and larger ones are learnt at this scale.
        largest: Objects of this size and larger ones are not; None: there is no limit.
        min_proposals: Number of proposals that a negative chip has at least.
    """

    factor: float | None = None
    long_side: int | None = None
    smallest: float = 0.0
    largest: float | None = None
    min_proposals: int = 11

    @property
    def usable(self) -> bool:
        """Whether the values are in their ranges and fit together."""
        given = [value for value in (self.factor, self.long_side) if value is not None]
        above = self.largest is None or self.largest > self.smallest
        return len(given) == 1 and given[0] > 0 and self.smallest >= 0 and above

    def of(self, size: Size) -> float:
        """The enlargement of an image of this height and width."""
        if self.long_side is not None:
            return self.long_side / max(size)
        assert self.factor is not None
        return self.factor

    def has(self, boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
        """Whether boxes, ``xyxy`` in pixels of the original image, are of the scale's sizes.

        >>> boxes = np.array([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 80.0, 80.0]])
        >>> ChipScale(factor=3.0, largest=80.0).has(boxes).tolist()
        [True, False]
        """
        sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
        largest = np.inf if self.largest is None else self.largest
        return (sizes >= self.smallest) & (sizes < largest)


SNIPER_SCALES = (
    ChipScale(factor=3.0, largest=80.0, min_proposals=26),
    ChipScale(factor=1.667, smallest=32.0, largest=150.0),
    ChipScale(long_side=512, smallest=120.0),
)
"""The paper's, for images of COCO's sizes; the numbers of proposals are the reference's."""


@dataclasses.dataclass(frozen=True)
class ChipRule:
    """How an image is cut into chips.

    Attributes:
        scales: The scales.
        side: Height and width of a chip in pixels.
        stride: Distance of the grid's windows in pixels of the chip.
        negatives: Largest number of negative chips of an image.
    """

    scales: tuple[ChipScale, ...] = SNIPER_SCALES
    side: int = 512
    stride: int = 32
    negatives: int = 2

    def windows(self, size: Size, scale: ChipScale) -> Windows:
        """The windows of a scale's grid, by rows; the last ones end at the edge of the image."""
        factor = scale.of(size)
        window = [min(length, max(1, round(self.side / factor))) for length in size]
        tops, lefts = (
            _starts(length - extent, self.stride / factor)
            for length, extent in zip(size, window, strict=True)
        )
        top, left = (part.ravel() for part in np.meshgrid(tops, lefts, indexing="ij"))
        return np.stack([left, top, left + window[1], top + window[0]], axis=1)

    def chip_size(self, size: Size, window: Windows, scale: ChipScale) -> Int[np.ndarray, "c 2"]:
        """Height and width of windows of an image in pixels of the chip, at most `side`."""
        extents = (window[:, 2:] - window[:, :2])[:, ::-1] * scale.of(size)
        return np.clip(np.rint(extents), 1, self.side).astype(np.int64)

    def cut(
        self,
        size: Size,
        boxes: Float[np.ndarray, "n 4"],
        proposals: Float[np.ndarray, "p 4"] | None,
        rng: np.random.Generator,
    ) -> tuple[Windows, Int[np.ndarray, " c"]]:
        """The chips of an image: first the positive ones of each scale, then the negative ones.

        Args:
            size: Height and width of the image.
            boxes: The objects, ``xyxy`` in pixels, within the image.
            proposals: Boxes that a detector took for objects, likewise; None for no negative chips.
            rng: Decides between windows that are equally good.

        Returns:
            The windows of the chips, and the number of the scale of each.
        """
        found, negative = [], []
        for number, scale in enumerate(self.scales):
            windows = self.windows(size, scale)
            positive = windows[greedy_cover(contain(windows, boxes[scale.has(boxes)]), 1, rng)[0]]
            found += [(window, number) for window in positive]
            if proposals is not None:
                rest = proposals[scale.has(proposals)]
                rest = rest[~contain(positive, rest).any(axis=0)]
                chosen, counts = greedy_cover(contain(windows, rest), scale.min_proposals, rng)
                negative += [(n, windows[i], number) for i, n in zip(chosen, counts, strict=True)]
        negative.sort(key=lambda chip: -chip[0])
        found += [chip[1:] for chip in negative[: self.negatives]]
        windows = np.array([window for window, _ in found], np.int64).reshape(-1, 4)
        return windows, np.array([number for _, number in found], np.int64)


def _starts(last: int, stride: float) -> Int[np.ndarray, " k"]:
    """Where windows begin along an axis: every `stride` pixels from 0, rounded, and at `last`."""
    regular = np.rint(np.arange(0, last, stride)).astype(np.int64)
    return np.unique(np.append(regular[regular < last], last))


def contain(windows: Windows, boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, "c n"]:
    """Whether each window has the whole of each box."""
    low, high = windows[:, None, :2] <= boxes[:, :2], windows[:, None, 2:] >= boxes[:, 2:]
    return np.all(low & high, axis=-1)


def greedy_cover(
    holds: Bool[np.ndarray, "c n"], least: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Takes the window with the most boxes that no taken one has, again and again.

    >>> holds = np.array([[True, False, False], [True, True, False], [False, True, True]])
    >>> greedy_cover(holds[:2], 1, np.random.default_rng(0))
    ([1], [2])

    Args:
        holds: Whether window c has box n.
        least: The smallest number of further boxes for which a window is taken, 1 or more.
        rng: Draws one of several best windows. The first ones would have their boxes at the lower
            right.

    Returns:
        The windows, and how many further boxes each has.
    """
    order = rng.permutation(len(holds))
    open_boxes = holds[order]
    chosen, counts = [], []
    while open_boxes.size:
        further = open_boxes.sum(axis=1)
        best = int(further.argmax())
        if further[best] < least:
            break
        chosen.append(int(order[best]))
        counts.append(int(further[best]))
        open_boxes = open_boxes[:, ~open_boxes[best]]
    return chosen, counts
