"""Scenes of real handwritten digits: a detection and segmentation set that needs no files.

A scene is a canvas of 64 x 64 pixels with one to six of scikit-learn's digits, 12 to 28 pixels
high, on a textured background. Scenes of the test split contain only scans of the test split of
the embedded ``digits`` set, and training scenes only scans of its training split. A scene depends
only on split and index, as long as the versions of numpy and OpenCV stay the same. Making a scene
takes less than a millisecond.

A digit hides earlier digits under its ink. At least `MIN_VISIBLE` of each digit's ink stays
visible. Boxes and masks cover only the visible part, as in annotations of photographs.
"""

import dataclasses
import functools
import math
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt8

from zoo.data.digits import scans, split_indices
from zoo.data.errors import DataError

SIZE = 64  # height and width of a canvas
MAX_DIGITS = 6
DIGIT_SIZES = (12, 28)  # height of a scan's 8 rows on the canvas
MIN_VISIBLE = 0.4  # least share of a digit's ink that stays visible
LENGTHS = {"train": 20_000, "test": 500}
CLASS_NAMES = tuple("0123456789")

_TRIES = 10  # places tried for a digit before it is left out
# In gray levels of 0..255: the difference between a digit and the mean of the background under it,
# and the largest amplitudes of the digit's tint, the background's texture, and the noise.
_CONTRAST, _TINT, _TEXTURE, _GRAIN = (60, 125), 30, 45, 8


@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene with its ground truth.

    Attributes:
        image: The picture.
        labels: The digits, 0..9, in the order in which they were drawn.
        masks: The visible part of each digit's ink.
    """

    image: UInt8[np.ndarray, "h w 3"]
    labels: Int32[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n h w"]

    @property
    def boxes(self) -> Float32[np.ndarray, "n 4"]:
        """The extents of `masks`, ``xyxy`` in pixels."""
        columns, rows = np.any(self.masks, axis=1), np.any(self.masks, axis=2)
        edges = [columns.argmax(1), rows.argmax(1)]
        edges += [SIZE - columns[:, ::-1].argmax(1), SIZE - rows[:, ::-1].argmax(1)]
        return np.stack(edges, axis=1).astype(np.float32)

    @property
    def semantic(self) -> UInt8[np.ndarray, "h w"]:
        """Label map: 0 for the background, digit + 1 for the ink of a digit."""
        return ((self.labels[:, None, None] + 1) * self.masks).sum(0).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class DigitScenes:
    """The scenes of one split: random access; each scene is made when it is read.

    Attributes:
        split: ``train`` or ``test``.
        length: Number of scenes; scene i is the same in sets of any length.
    """

    split: str
    length: int

    class_names = CLASS_NAMES

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"image", "boxes", "labels", "masks", "semantic", "name"}; see `Scene`."""
        scene = self.scene(index)
        return {
            "image": scene.image,
            "boxes": scene.boxes,
            "labels": scene.labels,
            "masks": scene.masks,
            "semantic": scene.semantic,
            "name": f"digit_scenes {self.split}[{index}]",
        }

    def scene(self, index: int) -> Scene:
        """The scene of an index in 0..length-1."""
        if not 0 <= index < self.length:
            raise IndexError(f"digit_scenes {self.split} has no scene {index} of {self.length}")
        return draw_scene(self.split, index)


def open_digit_scenes(split: str) -> DigitScenes:
    """The scenes of ``train`` or ``test``, or a given number of them: ``train[:1000]``.

    Raises:
        DataError: If there is no such split.
    """
    name, bracket, rest = split.partition("[:")
    length = rest.removesuffix("]")
    if name not in LENGTHS or (bracket and not (rest.endswith("]") and length.isdecimal())):
        raise DataError(
            f"data 'digit_scenes' has no split {split!r}; there are train, test, and beginnings"
            " such as train[:1000]"
        )
    return DigitScenes(name, int(length) if bracket else LENGTHS[name])


def draw_scene(split: str, index: int) -> Scene:
    """Scene number `index` of a split; any number from 0 on."""
    rng = np.random.default_rng([("train", "test").index(split), index])
    pool, pool_labels = _pool(split)
    canvas, labels = _ground(rng), []
    masks, areas = np.zeros((0, SIZE, SIZE), bool), np.zeros(0, int)
    for _ in range(rng.integers(1, MAX_DIGITS + 1)):
        scan, height = rng.integers(len(pool)), rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1)
        ink = _ink(pool[scan], int(height))
        for _ in range(_TRIES):
            place = _random_place(ink.shape, rng)
            mask = np.zeros((SIZE, SIZE), bool)
            mask[place] = ink >= 0.5
            remaining = masks & ~mask
            if (remaining.sum((1, 2)) >= MIN_VISIBLE * areas).all():
                _draw(canvas[place], ink, rng)
                masks = np.concatenate([remaining, mask[None]])
                areas = np.append(areas, mask.sum())
                labels.append(pool_labels[scan])
                break
    canvas += rng.integers(-_GRAIN, _GRAIN + 1, canvas.shape, dtype=np.int8)
    return Scene(canvas.clip(0, 255).astype(np.uint8), np.asarray(labels, np.int32), masks)


@functools.cache
def _pool(split: str) -> tuple[Float32[np.ndarray, "n 10 10"], Int[np.ndarray, " n"]]:
    """A split's scans, 1 for ink and 0 for paper, with a margin of one pixel, and their labels."""
    pixels, labels = scans()
    chosen = split_indices()[split]
    margins = ((0, 0), (1, 1), (1, 1))
    return np.pad(pixels[chosen] / np.float32(255), margins), labels[chosen]


def _ink(scan: Float32[np.ndarray, "10 10"], height: int) -> Float32[np.ndarray, "h w"]:
    """Opacity of a scan, enlarged until its 8 rows are `height` pixels high, cropped to its ink."""
    side = round(height * len(scan) / 8)
    ink = cv2.resize(scan, (side, side), interpolation=cv2.INTER_CUBIC)
    ink = np.clip((ink - 0.3) * 2.5, 0, 1)  # a stroke is opaque in the middle, with soft edges
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _random_place(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    top, left = rng.integers(SIZE - shape[0] + 1), rng.integers(SIZE - shape[1] + 1)
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def _draw(
    ground: Float32[np.ndarray, "h w 3"], ink: Float32[np.ndarray, "h w"], rng: np.random.Generator
) -> None:
    """Blends a digit into its part of the canvas, in a colour with enough contrast."""
    under = ground[ink >= 0.5].mean(0)
    contrast = rng.uniform(*_CONTRAST)
    brighter = under.mean() + contrast <= 255
    darker = under.mean() - contrast >= 0
    sign = 1 if brighter and (not darker or rng.random() < 0.5) else -1
    colour = under + sign * contrast + rng.uniform(-_TINT, _TINT, 3)
    ground += ink[..., None] * (colour.clip(0, 255).astype(np.float32) - ground)


_X, _Y = np.meshgrid(*[np.linspace(-1, 1, SIZE, dtype=np.float32)] * 2)


def _ground(rng: np.random.Generator) -> Float32[np.ndarray, "64 64 3"]:
    """A background: a gradient, stripes, checks or clouds, between two random colours."""
    kind, angle, phase = rng.integers(4), rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
    along = _X * math.cos(angle) + _Y * math.sin(angle)
    across = _Y * math.cos(angle) - _X * math.sin(angle)
    waves = rng.uniform(4, 25)  # radians from centre to edge: 1.3 to 8 periods over the width
    if kind == 0:
        texture = along
    elif kind == 1:
        texture = np.sin(waves * along + phase)
    elif kind == 2:
        texture = np.sin(waves * along + phase) * np.sin(waves * across + phase)
    else:
        coarse = int(rng.integers(4, 17))
        noise = rng.uniform(-1, 1, (coarse, coarse)).astype(np.float32)
        texture = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    base, step = rng.uniform(30, 225, 3), rng.uniform(-_TEXTURE, _TEXTURE, 3)
    return (base + texture[..., None] * step).astype(np.float32)
