"""Regions of an image, and their hierarchical grouping by similarity.

The grouping of Uijlings et al., "Selective search for object recognition", IJCV 104(2), 2013,
section 3: the two most similar neighbours are merged again and again, until one region is left.
Runs on the host.

Reference: OpenCV's ``ximgproc.segmentation.createSelectiveSearchSegmentation``. Deviations: regions
that touch only in the first row or column are neighbours, too; and the diagonal derivatives of an
image whose sides differ by more than a factor of 2.4 stay in their place, where OpenCV shifts them.
"""

import dataclasses
import heapq
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from zoo.types import Similarity

_COLOUR_BINS = 25
_TEXTURE_BINS = 10


@dataclasses.dataclass(frozen=True)
class Regions:
    """What the similarities need to know of the regions of an image.

    Attributes:
        boxes: Smallest box around each region, ``xyxy``.
        pixels: Number of pixels of each region.
        colour: Histogram of each region, with 25 bins a channel; its bins add up to 1.
        texture: Histogram of the derivatives in 8 directions, with 10 bins each; see `derivatives`.
        neighbours: Pairs of regions, the smaller number first, each pair once.
        area: Pixels of the image.
    """

    boxes: Int[np.ndarray, "n 4"]
    pixels: Int[np.ndarray, " n"]
    colour: Float64[np.ndarray, "n d"]
    texture: Float64[np.ndarray, "n f"]
    neighbours: Int[np.ndarray, "e 2"]
    area: int


def describe(
    labels: Int[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "h w c"],
    texture: UInt8[np.ndarray, "h w f"],
) -> Regions:
    """Describes the regions of an image.

    Args:
        labels: The region of each pixel, from 0 without gaps.
        image: In the colour space of the similarities.
        texture: `derivatives` of the image.
    """
    n = int(labels.max()) + 1
    return Regions(
        boxes=_boxes(labels, n),
        pixels=np.bincount(labels.ravel(), minlength=n),
        colour=_histograms(labels, image, _COLOUR_BINS, n),
        texture=_histograms(labels, texture, _TEXTURE_BINS, n),
        neighbours=_neighbours(labels, n),
        area=labels.size,
    )


def derivatives(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w f"]:
    """The derivatives of each channel in 8 directions, each stretched to 0..255.

    Scharr's filter in x, in y, and along both diagonals, for which the channel is turned by 45
    degrees and back; of each, the positive part and the negative part.
    """
    planes = []
    for channel in cv2.split(image):
        for slope in (*_slopes(channel), *_diagonal_slopes(channel)):
            for part in (np.maximum(slope, 0), np.minimum(slope, 0)):
                stretched = np.empty(part.shape, np.uint8)
                cv2.normalize(part, stretched, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
                planes.append(stretched)
    return np.stack(planes, axis=-1)


def _slopes(channel: UInt8[np.ndarray, "h w"]) -> list[Float32[np.ndarray, "h w"]]:
    return [cv2.Scharr(channel, cv2.CV_32F, 1 - axis, axis) for axis in (0, 1)]


def _diagonal_slopes(channel: UInt8[np.ndarray, "h w"]) -> list[Float32[np.ndarray, "h w"]]:
    height, width = channel.shape
    rows, columns = _turned_size(height, width)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 45, 1)
    turn[:, 2] += (columns - width) / 2, (rows - height) / 2
    turned = cv2.warpAffine(channel, turn, (columns, rows))
    back = cv2.getRotationMatrix2D((columns // 2, rows // 2), -45, 1)
    back[:, 2] -= (columns - width) // 2, (rows - height) // 2
    return [cv2.warpAffine(slope, back, (width, height)) for slope in _slopes(turned)]


def _turned_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of whole pixels around a rectangle that is turned by 45 degrees."""
    corners = cv2.boxPoints(((width / 2, height / 2), (width, height), 45))
    columns, rows = np.ceil(corners.max(axis=0)) - np.floor(corners.min(axis=0)) + 1
    return int(rows), int(columns)


def _histograms(
    labels: Int[np.ndarray, "h w"], planes: UInt8[np.ndarray, "h w c"], bins: int, n: int
) -> Float64[np.ndarray, "n d"]:
    """Histograms of 0..255 in equal bins for each region and plane; a region's add up to 1."""
    places = (np.arange(256) / (256 / bins)).astype(np.int64)
    starts = labels.ravel() * bins
    counts = [
        np.bincount(starts + places[plane.ravel()], minlength=n * bins).reshape(n, bins)
        for plane in np.moveaxis(planes, -1, 0)
    ]
    together = np.concatenate(counts, axis=1)
    return together / together.sum(axis=1, keepdims=True)


def _boxes(labels: Int[np.ndarray, "h w"], n: int) -> Int[np.ndarray, "n 4"]:
    """The smallest box around each region."""
    height, width = labels.shape
    boxes = np.tile(np.array([width, height, 0, 0]), (n, 1))
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    for i, place in enumerate((columns, rows)):
        # The last of several assignments to one entry counts, so the order gives the extremes.
        order = np.argsort(place, axis=None, kind="stable")
        last = labels.ravel()[order]
        boxes[last, i + 2] = place.ravel()[order] + 1
        boxes[last[::-1], i] = place.ravel()[order[::-1]]
    return boxes


def _neighbours(labels: Int[np.ndarray, "h w"], n: int) -> Int[np.ndarray, "e 2"]:
    """Regions with pixels that touch: side by side, above, or diagonally above to the left."""
    steps = [
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
    ]
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in steps])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    codes = np.unique(pairs[:, 0] * n + pairs[:, 1])
    return np.stack([codes // n, codes % n], axis=1)


def group(regions: Regions, similarities: Sequence[Similarity]) -> Int[np.ndarray, "t 4"]:
    """Merges the most similar neighbours until none are left.

    The similarity of two regions is the sum of these: ``colour`` and ``texture``, the intersection
    of their histograms; ``size``, the share of the image outside both; ``fill``, one minus the
    share of the image that is in the box around both, but in neither. Of equally similar pairs,
    the one with the lowest numbers is merged first, a new region having the next number.

    Returns:
        The boxes of the n regions, and then those of the merged ones in order of their merging:
        2 n - 1 boxes if the regions are connected.
    """
    forest = _Forest(regions, similarities)
    queue = []
    for a, b in regions.neighbours.tolist():
        forest.join(a, b)
    for a in range(len(regions.pixels)):
        forest.rate(a, [b for b in forest.neighbours[a] if b > a], queue)
    while queue:
        _, a, b = heapq.heappop(queue)
        if b in forest.neighbours[a]:  # False if one of them was merged meanwhile
            new = forest.merge(a, b)
            forest.rate(new, sorted(forest.neighbours[new]), queue)
    return forest.boxes[: forest.count]


class _Forest:
    """All regions, given and merged, in arrays that have room for all that can be merged."""

    def __init__(self, regions: Regions, similarities: Sequence[Similarity]) -> None:
        n = len(regions.pixels)
        self.count, self.area, self.similarities = n, regions.area, similarities
        room = [(0, max(n - 1, 0)), (0, 0)]
        self.boxes = np.pad(regions.boxes, room)
        self.pixels = np.pad(regions.pixels, room[0])
        parts = [getattr(regions, name) for name in ("colour", "texture") if name in similarities]
        self.histograms = np.pad(np.concatenate([np.empty((n, 0)), *parts], axis=1), room)
        self.neighbours: list[set[int]] = [set() for _ in range(n)]

    def join(self, a: int, b: int) -> None:
        """Makes two regions neighbours."""
        self.neighbours[a].add(b)
        self.neighbours[b].add(a)

    def merge(self, a: int, b: int) -> int:
        """Replaces two neighbours by one region; returns its number."""
        new = self.count
        self.count += 1
        both = [a, b]
        self.boxes[new, :2] = self.boxes[both, :2].min(axis=0)
        self.boxes[new, 2:] = self.boxes[both, 2:].max(axis=0)
        self.pixels[new] = self.pixels[both].sum()
        shares = self.pixels[both] / self.pixels[new]
        self.histograms[new] = shares @ self.histograms[both]
        around = (self.neighbours[a] | self.neighbours[b]) - {a, b}
        self.neighbours[a], self.neighbours[b] = set(), set()
        self.neighbours.append(set())
        for other in around:
            self.neighbours[other] -= {a, b}
            self.join(new, other)
        return new

    def rate(self, a: int, others: list[int], queue: list[tuple[float, int, int]]) -> None:
        """Queues pairs of a region and others, most similar first."""
        total = np.minimum(self.histograms[a], self.histograms[others]).sum(axis=1)
        pixels = self.pixels[a] + self.pixels[others]
        if "size" in self.similarities:
            total += 1 - pixels / self.area
        if "fill" in self.similarities:
            low = np.minimum(self.boxes[a, :2], self.boxes[others, :2])
            high = np.maximum(self.boxes[a, 2:], self.boxes[others, 2:])
            total += 1 - ((high - low).prod(axis=1) - pixels) / self.area
        for other, similarity in zip(others, total.tolist(), strict=True):
            heapq.heappush(queue, (-similarity, min(a, other), max(a, other)))
