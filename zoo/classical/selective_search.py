"""Selective search: boxes that may hold an object, from regions that are grouped in many ways.

Uijlings et al., "Selective search for object recognition", IJCV 104(2), 2013. The image, in several
colour spaces, is divided into regions at several scales (`zoo.classical.graph_segmentation`), which
are grouped by several combinations of similarities (`zoo.classical.regions`). The boxes of all
regions and groups are the result. Runs on the host: it belongs to the preparation of data.

Reference: OpenCV's ``ximgproc.segmentation.createSelectiveSearchSegmentation``, which finds the
same boxes with the same settings; equal similarities make it merge in an arbitrary order. `FAST`
and `QUALITY` have its settings, among them red and green that are not divided by the sum of the
channels, as they are in the paper. Deviations: in its quality mode OpenCV overwrites the hue by the
blue channel, which is a mistake; and it puts small regions first, where here, as in the paper,
large groups tend to come first.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from zoo.classical.graph_segmentation import segment, sorted_edges
from zoo.classical.regions import Similarity, derivatives, describe, group
from zoo.types import InputError, ProposalSearch, Space


@dataclasses.dataclass(frozen=True)
class Diversity:
    """The ways of grouping; all combinations of the first three are made.

    Attributes:
        spaces: Colour spaces; ``rgi`` is red, green and intensity.
        ks: Scales of the segmentation: see `zoo.classical.graph_segmentation.segment`.
        similarities: Combinations of similarities; their sum decides what is merged.
        sigma: Blur before the segmentation, in pixels.
        min_size: Least number of pixels of a region in the segmentation.
    """

    spaces: tuple[Space, ...]
    ks: tuple[float, ...]
    similarities: tuple[tuple[Similarity, ...], ...]
    sigma: float = 0.8
    min_size: int = 100


FAST = Diversity(
    spaces=("hsv", "lab"),
    ks=(150.0, 300.0, 450.0),
    similarities=(("colour", "texture", "size", "fill"), ("texture", "size", "fill")),
)
QUALITY = Diversity(
    spaces=("hsv", "lab", "intensity", "hue", "rgi"),
    ks=(150.0, 300.0, 450.0, 600.0, 750.0),
    similarities=(*FAST.similarities, ("fill",), ("size",)),
)


def selective_search(
    image: Shaped[np.ndarray, "..."],
    diversity: Diversity = FAST,
    *,
    min_side: int = 0,
    seed: int = 0,
) -> Float32[np.ndarray, "n 4"]:
    """Boxes that may hold an object.

    Args:
        image: RGB, uint8 of shape [h w 3].
        diversity: The ways of grouping. `FAST` takes about 3 s for 500 x 375 pixels; `QUALITY`
            takes 10 s and gives about four times as many boxes.
        min_side: Boxes with a shorter side are left out; R-CNN uses 20.
        seed: Of the random part of the order.

    Returns:
        Distinct boxes, ``xyxy`` in pixels, whose number depends on the image. The order mixes all
        groupings: it is that of i times a random number, where i is 1 for the last group of a
        grouping (the whole image), 2 for the one before it, and so on. So the first boxes are a
        good choice if only some are used.

    Raises:
        InputError: If the image is not an RGB image of bytes.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"selective search needs an RGB image [h w 3] of uint8, not {image.dtype} of shape"
            f" {image.shape}"
        )
    rng = np.random.default_rng(seed)
    found, ranks = [], []
    for space in diversity.spaces:
        converted = _convert(image, space)
        texture = derivatives(converted)
        edges = sorted_edges(converted, diversity.sigma)
        for k in diversity.ks:
            regions = describe(segment(edges, k, diversity.min_size), converted, texture)
            for similarities in diversity.similarities:
                boxes = group(regions, similarities)
                found.append(boxes)
                ranks.append(np.arange(len(boxes), 0, -1) * rng.random(len(boxes)))
    boxes = np.concatenate(found)[np.argsort(np.concatenate(ranks), kind="stable")]
    boxes = boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])]
    return boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= min_side].astype(np.float32)


def propose(
    image: UInt8[np.ndarray, "h w 3"] | None, search: ProposalSearch
) -> Float32[np.ndarray, "n 4"]:
    """The regions that are proposed to a detector.

    Args:
        image: RGB; None, for an image that cannot be read, has no proposals.
        search: The settings.

    Returns:
        At most ``search.num_proposals`` distinct boxes, ``xyxy`` in pixels of the image, in the
        order of `selective_search`.
    """
    if image is None:
        return np.zeros((0, 4), np.float32)
    height, width = image.shape[:2]
    scale = min(1.0, search.long_side / max(height, width))
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    if scale < 1:
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    names = [field.name for field in dataclasses.fields(Diversity)]
    diversity = Diversity(**{name: getattr(search, name) for name in names})
    boxes = selective_search(np.asarray(image), diversity, min_side=search.min_side)
    enlarged = boxes * np.array([width / columns, height / rows] * 2, np.float32)
    return enlarged[: search.num_proposals]


def _convert(image: UInt8[np.ndarray, "h w 3"], space: Space) -> UInt8[np.ndarray, "h w c"]:
    """An RGB image in a colour space of bytes; the hue is 0..179."""
    if space == "lab":
        return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    if space == "hsv":
        return cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if space == "hue":
        return cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., :1]
    intensity = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return intensity if space == "intensity" else np.concatenate([image[..., :2], intensity], -1)
