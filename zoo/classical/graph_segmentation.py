"""Divides an image into regions of similar pixels, by merging a graph's components.

Felzenszwalb and Huttenlocher, "Efficient graph-based image segmentation", IJCV 59(2), 2004. Pixels
are nodes; an edge joins a pixel to its neighbour and weighs the distance of their colours. Edges
are taken in order of rising weight, and an edge merges the components at its ends unless it is
heavier than what either of them tolerates. Runs on the host.

Reference: OpenCV's ``ximgproc.segmentation.createGraphSegmentation``, whose regions are the same
ones except where several edges weigh the same: there its order is arbitrary, and here rightward
edges come first, then downward edges, each row by row. Like OpenCV's, and unlike the authors'
program, pixels have four neighbours, not eight.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, Shaped, UInt8


class Edges(NamedTuple):
    """The edges between the pixels of an image, lightest first.

    Attributes:
        weights: Euclidean distance of the colours, on the scale of the image.
        ends: The two pixels of each edge, counted row by row.
        size: Height and width of the image.
    """

    weights: Float32[np.ndarray, " e"]
    ends: Int[np.ndarray, "2 e"]
    size: tuple[int, int]


def sorted_edges(image: UInt8[np.ndarray, "h w *c"], sigma: float = 0.8) -> Edges:
    """The edges of an image that is first blurred by a Gaussian.

    Args:
        image: One channel or several, in any colour space.
        sigma: Standard deviation of the Gaussian, in pixels; above 0.
    """
    height, width = image.shape[:2]
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma).reshape(height, width, -1)
    pixels = np.arange(height * width).reshape(height, width)
    steps = [(np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])]
    squares = [((smooth[a] - smooth[b]) ** 2).sum(axis=-1).ravel() for a, b in steps]
    starts = np.concatenate([pixels[a].ravel() for a, _ in steps])
    ends = np.concatenate([pixels[b].ravel() for _, b in steps])
    weights = np.sqrt(np.concatenate(squares))
    order = np.argsort(weights, kind="stable")
    return Edges(weights[order], np.stack([starts, ends])[:, order], (height, width))


def segment(edges: Edges, k: float, min_size: int = 100) -> Int[np.ndarray, "h w"]:
    """The region of each pixel.

    An edge merges two components if its weight is at most ``internal + k / pixels`` of both, where
    ``internal`` is the heaviest edge that was merged in the component, 0 for a single pixel.

    Args:
        edges: Of the image.
        k: Larger values give larger regions; on the scale of the weights.
        min_size: Afterwards, the lightest edge of a component with fewer pixels merges it.

    Returns:
        Numbers of regions, from 0 without gaps, in order of each region's first pixel.
    """
    height, width = edges.size
    starts, ends = edges.ends.tolist()
    parent = list(range(height * width))  # a component's root is its own parent
    pixels = [1] * len(parent)
    tolerated = [float(k)] * len(parent)
    for weight, a, b in zip(edges.weights.tolist(), starts, ends, strict=True):
        # The search for both roots is written out in both loops: calls would double the time.
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a != b and weight <= tolerated[a] and weight <= tolerated[b]:
            if pixels[a] < pixels[b]:
                a, b = b, a
            parent[b] = a
            pixels[a] += pixels[b]
            tolerated[a] = weight + k / pixels[a]
    _absorb_small(parent, pixels, edges.ends, min_size)
    return _numbered(_roots(np.array(parent))).reshape(height, width)


def _absorb_small(
    parent: list[int], pixels: list[int], edges: Int[np.ndarray, "2 e"], min_size: int
) -> None:
    """Merges along every edge, lightest first, of which one end's component is too small."""
    roots, counts = _roots(np.array(parent)), np.array(pixels)
    starts, ends = roots[edges]
    small = (starts != ends) & (np.minimum(counts[starts], counts[ends]) < min_size)
    for a, b in zip(starts[small].tolist(), ends[small].tolist(), strict=True):
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a != b and min(pixels[a], pixels[b]) < min_size:
            if pixels[a] < pixels[b]:
                a, b = b, a
            parent[b] = a
            pixels[a] += pixels[b]


def _roots(parent: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The root of each node of a forest."""
    while True:
        higher = parent[parent]
        if (higher == parent).all():
            return parent
        parent = higher


def _numbered(values: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Numbers distinct values from 0, in order of their first appearance.

    >>> _numbered(np.array([7, 7, 3, 7, 9])).tolist()
    [0, 0, 1, 0, 2]
    """
    _, first, places = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[places]
