"""Finds boxes that were written in another format than the one they are read in.

Boxes as corners, as centres, or as shares of the image give AP near 0 without any error. Their
numbers alone often tell; predictions can be tried against the ground truth.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from eval.records import DetectionRows, ObjectRows, take

Boxes = Float[np.ndarray, "n 4"]
Sizes = Int[np.ndarray, "n 2"]  # width and height of an image

_OUTSIDE = 0.02  # share of boxes that may reach outside their image, as single annotation errors
_SHARES = 1.5  # no share of an image is larger, with some tolerance for boxes that reach outside
_LOW = 0.1  # AP below which formats are tried whatever the numbers are
_GAIN = 0.05  # AP that a format must add to be named
_SAMPLE = 500  # images on which formats are tried first
_BOXES = 20_000  # boxes whose numbers are looked at


def box_problem(boxes_xywh: Boxes, sizes: Sizes) -> Literal["shares", "corners", "outside"] | None:
    """The format that boxes seem to have instead of xywh in pixels; None if they seem right.

    Args:
        boxes_xywh: Boxes, read as left, top, width, height.
        sizes: Width and height of the image of each box; positive.

    Returns:
        ``shares`` of the image; ``corners`` left, top, right, bottom; ``outside``: many boxes reach
        beyond their images, and not as corners; or None.
    """
    if not len(boxes_xywh):
        return None
    first, second = boxes_xywh[:, :2], boxes_xywh[:, 2:]
    if boxes_xywh.max() <= _SHARES and sizes.min() > 8:
        return "shares"
    outside = _outside_share(boxes_xywh, sizes)
    corners = ((second > first) & (second <= sizes + 1)).all(axis=1).mean()
    if outside > _OUTSIDE and corners > 1 - _OUTSIDE:
        return "corners"
    return "outside" if outside > _OUTSIDE else None


def describe_problem(problem: str, boxes_xywh: Boxes, sizes: Sizes) -> str:
    """One line about what `box_problem` found, and how to solve it."""
    if problem == "shares":
        return (
            f"no number of a box is above {boxes_xywh.max():.3g}: they look like shares of the"
            " image; COCO's boxes are in pixels, so multiply x and width by the width of the"
            " image, and y and height by its height"
        )
    beyond = f"{_outside_share(boxes_xywh, sizes):.0%} of the boxes reach beyond their images"
    if problem == "corners":
        return (
            f"{beyond}, but as corners they would fit: they look like [x1, y1, x2, y2]; COCO's"
            " boxes are [x, y, width, height], so use x2 - x1 and y2 - y1 as width and height"
        )
    return (
        f"{beyond}: they were made for images of a different size, or are not"
        " [x, y, width, height] in pixels"
    )


def _outside_share(boxes_xywh: Boxes, sizes: Sizes) -> float:
    return float((boxes_xywh[:, :2] + boxes_xywh[:, 2:] > sizes + 1).any(axis=1).mean())


def _from_corners(values: Boxes) -> Boxes:
    return np.concatenate([values[:, :2], values[:, 2:] - values[:, :2]], axis=1)


def _from_centres(values: Boxes) -> Boxes:
    return np.concatenate([values[:, :2] - values[:, 2:] / 2, values[:, 2:]], axis=1)


def _turned(values: Boxes) -> Boxes:
    return values[:, [1, 0, 3, 2]]


_TO_XYWH: dict[str, Callable[[Boxes], Boxes]] = {
    "[x, y, width, height]": lambda values: values,
    "[x1, y1, x2, y2]": _from_corners,
    "[y1, x1, y2, x2]": lambda values: _from_corners(_turned(values)),
    "[centre x, centre y, width, height]": _from_centres,
}


class Better(NamedTuple):
    """A format in which predictions score higher, and AP if they are read so."""

    format: str
    figure: float


Score = Callable[[ObjectRows, DetectionRows], float]


def better_format(
    objects: ObjectRows,
    detections: DetectionRows,
    sizes: Sizes,
    score: Score,
    now: float,
    given: Boxes | None = None,
) -> Better | None:
    """The format of predicted boxes that raises AP most; None if none raises it much.

    Formats are only tried if the numbers of the boxes or a low AP give reason to, and first on a
    part of the images.

    Args:
        objects: The ground truth.
        detections: The predictions as they were read.
        sizes: Width and height of each image, by id; 0 if unknown.
        score: A function of ground truth and predictions that gives AP, 0 to 1.
        now: AP of `detections`.
        given: The four numbers of each box as they were written; None if those are xywh.
    """
    if not len(objects) or not len(detections):
        return None
    given = detections.boxes_xywh if given is None else given
    if now >= _LOW and not _suspicious(detections, sizes):
        return None
    around = sizes[detections.images]
    images = np.unique(objects.images)
    chosen = images[np.unique(np.linspace(0, len(images) - 1, _SAMPLE).astype(int))]
    some = take(objects, np.isin(objects.images, chosen))
    rows = np.flatnonzero(np.isin(detections.images, chosen))
    part = take(detections, rows)
    units = ("pixels", "shares of the image") if given.max() <= _SHARES else ("pixels",)
    best, figure = "", score(some, part) + _GAIN
    for layout in _TO_XYWH:
        for unit in units:
            boxes = _read(given[rows], around[rows], layout, unit)
            found = score(some, _with(part, boxes))
            if found > figure:
                best, figure = f"{layout} in {unit}", found
    if not best:
        return None
    layout, _, unit = best.partition(" in ")
    figure = score(objects, _with(detections, _read(given, around, layout, unit)))
    return Better(best, figure) if figure > now else None


def _suspicious(detections: DetectionRows, sizes: Sizes) -> bool:
    """Whether a part of the boxes looks like corners or shares of the image."""
    part = slice(None, None, len(detections) // _BOXES + 1)
    boxes, around = detections.boxes_xywh[part], sizes[detections.images[part]]
    known = (around > 0).all(axis=1)
    return box_problem(boxes[known], around[known]) in ("shares", "corners")


def _read(given: Boxes, sizes: Sizes, layout: str, unit: str) -> Boxes:
    """Boxes xywh in pixels; none is of negative width or height."""
    if unit != "pixels":
        given = given * np.tile(sizes[:, ::-1] if layout.startswith("[y") else sizes, 2)
    return np.maximum(_TO_XYWH[layout](given), [-np.inf, -np.inf, 0, 0])


def _with(detections: DetectionRows, boxes_xywh: Boxes) -> DetectionRows:
    areas = boxes_xywh[:, 2:].prod(axis=1)
    columns = (detections.images, detections.categories, detections.scores)
    return DetectionRows(*columns, boxes_xywh, areas)
