"""Reads and writes KITTI's files: labels and results of objects, and cameras.

Each line of a label file is an object: its type, how much of it is outside the image (0..1), how
much is hidden (0 none, 1 partly, 2 largely, 3 unknown), the observation angle, the box ``xyxy`` in
pixels, height, width and length, location, and rotation; in results a score follows.
`zoo.ops.cameras` has the conventions. Objects of the type ``DontCare`` have only a box.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from zoo.data.errors import DataError
from zoo.data.formats.folders import read_text

_NUMBERS = 14  # after the type, without a score


class KittiObjects(NamedTuple):
    """The objects of an image, in the order of the file.

    Attributes:
        types: ``Car``, ``Pedestrian``, ``Cyclist``, ``Van``, ``Truck``, ``Person_sitting``,
            ``Tram``, ``Misc`` or ``DontCare``.
        truncated: Share outside the image; -1 if it is unknown.
        occluded: 0 to 3; -1 if it is unknown.
        alphas: Observation angles, -pi..pi.
        boxes: ``xyxy`` in pixels.
        dimensions: Height, width and length in metres.
        locations: x, y and z of the middle of the bottom, in metres.
        rotations: About y, -pi..pi.
        scores: Of results; None for labels.
    """

    types: tuple[str, ...]
    truncated: Float32[np.ndarray, " n"]
    occluded: Int32[np.ndarray, " n"]
    alphas: Float32[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    dimensions: Float32[np.ndarray, "n 3"]
    locations: Float32[np.ndarray, "n 3"]
    rotations: Float32[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"] | None = None


def read_objects(path: Path) -> KittiObjects:
    """Reads a label file, or a file of results.

    Raises:
        DataError: If it cannot be read, or a line is not an object; the message has its number.
    """
    lines = [line.split() for line in read_text(path).splitlines()]
    rows = [(i, words) for i, words in enumerate(lines, start=1) if words]
    counts = {len(words) - 1 for _, words in rows}
    if not counts <= {_NUMBERS} and not counts <= {_NUMBERS + 1}:
        allowed = _NUMBERS, _NUMBERS + 1
        wrong = next((i for i, words in rows if len(words) - 1 not in allowed), rows[0][0])
        raise DataError(
            f"{path}, line {wrong}: not a type and {_NUMBERS} numbers, or in all lines a score, too"
        )
    table = np.zeros((len(rows), max(counts, default=_NUMBERS)), np.float32)
    for row, (i, words) in zip(table, rows, strict=True):
        try:
            row[:] = [float(word) for word in words[1:]]
        except ValueError as error:
            raise DataError(f"{path}, line {i}: {error}") from None
    if not np.isfinite(table).all():
        raise DataError(f"{path}: a number is not finite")
    return KittiObjects(
        tuple(words[0] for _, words in rows),
        table[:, 0],
        table[:, 1].astype(np.int32),
        table[:, 2],
        table[:, 3:7],
        table[:, 7:10],
        table[:, 10:13],
        table[:, 13],
        table[:, 14] if table.shape[1] > _NUMBERS else None,
    )


def write_objects(path: Path, objects: KittiObjects) -> None:
    """Writes a file of labels or, if there are scores, of results, with two digits as KITTI's.

    Scores have four digits, so that few are equal.
    """
    parts = (objects.alphas[:, None], objects.boxes, objects.dimensions, objects.locations)
    numbers = np.concatenate([*parts, objects.rotations[:, None]], axis=1)
    lines = []
    for i, kind in enumerate(objects.types):
        words = [kind, f"{objects.truncated[i]:.2f}", str(int(objects.occluded[i]))]
        words += [f"{number:.2f}" for number in numbers[i]]
        words += [] if objects.scores is None else [f"{objects.scores[i]:.4f}"]
        lines.append(" ".join(words) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def read_camera(path: Path, name: str = "P2") -> Float32[np.ndarray, "3 4"]:
    """Reads a camera of a calibration file; ``P2`` is that of the left colour images.

    Raises:
        DataError: If the file cannot be read, or has no such camera.
    """
    for line in read_text(path).splitlines():
        key, _, rest = line.partition(":")
        if key.strip() == name:
            return _matrix(path, name, rest.split())
    raise DataError(f"{path}: no camera {name}")


def _matrix(path: Path, name: str, words: Sequence[str]) -> Float32[np.ndarray, "3 4"]:
    try:
        return np.array([float(word) for word in words], np.float32).reshape(3, 4)
    except ValueError:
        raise DataError(f"{path}: {name} is not 12 numbers") from None
