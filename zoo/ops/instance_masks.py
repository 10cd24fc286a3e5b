"""Resizes a model's coarse object masks, of the image or of the boxes, to the image."""

from collections.abc import Iterator
from types import ModuleType

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from zoo.ops.rle import Masks, from_arrays
from zoo.types import Paste, check_choice

Size = tuple[int, int]
_Edges = Float[Array | np.ndarray, "n 1 1"]
_Pixels = Int[Array | np.ndarray, "pixels 1"]


def full_size_masks(
    logits: Float[np.ndarray, "n rows columns"], canvas: Size, size: Size, original_size: Size
) -> Bool[np.ndarray, "n h w"]:
    """Masks of one image's objects, in the pixels of the original image.

    As the ``PostProcessSegm`` of DETR's authors: the logits are interpolated to the size of the
    padded input, a pixel whose probability is above a half belongs to the object, the padding is
    cut off, and the mask is resized to the original size by nearest neighbours.

    >>> logits = np.array([[[9.0, -9.0], [9.0, -9.0]]])
    >>> full_size_masks(logits, canvas=(4, 4), size=(2, 4), original_size=(1, 2)).tolist()
    [[[True, False]]]

    Args:
        logits: The model's mask logits for the padded input, at a coarser stride.
        canvas: Height and width of the padded input.
        size: Height and width of the image in it, which is at its top left.
        original_size: Height and width of the image before it was resized; h and w of the result.
    """
    masks = np.zeros((len(logits), *original_size), bool)
    for mask, coarse in zip(masks, logits, strict=True):
        fine = cv2.resize(coarse.astype(np.float32), canvas[::-1], interpolation=cv2.INTER_LINEAR)
        inside = (fine[: size[0], : size[1]] > 0).astype(np.uint8)
        mask[:] = cv2.resize(inside, original_size[::-1], interpolation=cv2.INTER_NEAREST)
    return masks


def paste_masks(
    probabilities: Float[Array | np.ndarray, "n s s"],
    boxes: Float[Array | np.ndarray, "n 4"],
    size: Size,
    paste: Paste = "centres",
) -> Float[Array | np.ndarray, "n h w"]:
    """The mask of each object in its box, resampled to the pixels of the image; 0 elsewhere.

    Works on JAX arrays, under ``jit`` with a static `size`, and on numpy arrays without compiling
    anything: `size` is mostly that of the original image, which differs from image to image.

    >>> paste_masks(np.ones((1, 1, 1)), np.array([[1.0, 0.0, 3.0, 1.0]]), (1, 4)).tolist()
    [[[0.25, 0.75, 0.75, 0.25]]]

    Args:
        probabilities: Masks, 0 to 1, each over its box.
        boxes: ``xyxy`` in pixels of the image; they may extend beyond it. A degenerate one has an
            empty mask with ``centres``, and is a pixel wide and high with ``whole_pixels``.
        size: Height and width of the image, h and w.
        paste: ``centres``: bilinear interpolation at the centres of pixels, as detectron2 does.
            ``whole_pixels``: as torchvision does, box and mask are enlarged by a ring of zeros
            around the mask, and the corners of the box are cut down to whole pixels, which belong
            to it.

    Returns:
        The masks; torchvision's and detectron2's are True where they are at least a half.
    """
    xp = jnp if isinstance(probabilities, jax.Array) else np
    return _paste(probabilities, boxes, xp.arange(size[0]), xp.arange(size[1]), paste)


def paste_binary_masks(
    probabilities: Float[np.ndarray, "n s s"],
    boxes: Float[np.ndarray, "n 4"],
    size: Size,
    paste: Paste = "centres",
    threshold: float = 0.5,
) -> Bool[np.ndarray, "n h w"]:
    """True where `paste_masks` is at least the threshold, which must be above 0.

    One object after another, and only around its box: less memory and time than `paste_masks`.

    Args:
        probabilities: As for `paste_masks`.
        boxes: As for `paste_masks`.
        size: As for `paste_masks`.
        paste: As for `paste_masks`.
        threshold: Above 0, at most 1.
    """
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (rows, columns, part) in zip(
        masks, _parts(probabilities, boxes, size, paste, threshold), strict=True
    ):
        mask[rows, columns] = part
    return masks


def paste_run_lengths(
    probabilities: Float[np.ndarray, "n s s"],
    boxes: Float[np.ndarray, "n 4"],
    size: Size,
    paste: Paste = "centres",
    threshold: float = 0.5,
) -> Masks:
    """The masks of `paste_binary_masks` as run lengths.

    At no time it holds more than the columns of one object's box as an array. So it can be used for
    many objects in a large image.

    Args:
        probabilities: As for `paste_masks`.
        boxes: As for `paste_masks`.
        size: As for `paste_masks`.
        paste: As for `paste_masks`.
        threshold: Above 0, at most 1.
    """
    found = []
    for rows, columns, part in _parts(probabilities, boxes, size, paste, threshold):
        strip = np.zeros((1, size[0], part.shape[1]), bool)
        strip[0, rows] = part
        runs = from_arrays(strip)  # positions are counted column by column
        toggles = runs.toggles + np.int32(columns.start * size[0])
        found.append(Masks(toggles, runs.offsets, np.array([size])))
    return Masks.concatenate(found) if found else from_arrays(np.zeros((0, *size), bool))


def _parts(
    probabilities: Float[np.ndarray, "n s s"],
    boxes: Float[np.ndarray, "n 4"],
    size: Size,
    paste: Paste,
    threshold: float,
) -> Iterator[tuple[slice, slice, Bool[np.ndarray, "rows columns"]]]:
    """For each object the rows and columns of the image around its box, and its mask there."""
    margin = (boxes[:, 2:] - boxes[:, :2]) / max(probabilities.shape[-1], 1) + 2  # more than a cell
    low = np.clip(np.floor(boxes[:, :2] - margin), 0, size[::-1]).astype(int)
    high = np.clip(np.ceil(boxes[:, 2:] + margin), low, size[::-1]).astype(int)
    for i, ((left, top), (right, bottom)) in enumerate(zip(low, high, strict=True)):
        one = slice(i, i + 1)
        rows, columns = np.arange(top, bottom), np.arange(left, right)
        soft = np.asarray(_paste(probabilities[one], boxes[one], rows, columns, paste)[0])
        yield slice(top, bottom), slice(left, right), soft >= threshold


def _paste(
    probabilities: Float[Array | np.ndarray, "n s s"],
    boxes: Float[Array | np.ndarray, "n 4"],
    rows: Int[Array | np.ndarray, " h"],
    columns: Int[Array | np.ndarray, " w"],
    paste: Paste,
) -> Float[Array | np.ndarray, "n h w"]:
    """`paste_masks` for some rows and columns of the image."""
    check_choice("paste", paste, Paste)
    xp = jnp if isinstance(probabilities, jax.Array) else np
    weigh = _weigh_centres if paste == "centres" else _weigh_whole_pixels
    left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
    cells = probabilities.shape[-1]
    down = weigh(top, bottom, rows[:, None], cells, xp)
    across = weigh(left, right, columns[:, None], cells, xp)
    return down @ probabilities @ across.swapaxes(1, 2)


def _weigh_centres(
    low: _Edges, high: _Edges, pixels: _Pixels, cells: int, xp: ModuleType
) -> Float[Array | np.ndarray, "n pixels cells"]:
    """The weight of each cell of a mask at each pixel, along one axis of the image."""
    extent = high - low
    scale = xp.where(extent > 0, cells / xp.where(extent > 0, extent, 1), 0)
    place = (pixels + 0.5 - low) * scale - 0.5
    weight = xp.maximum(1 - abs(place - xp.arange(cells)), 0)
    return xp.where(extent > 0, weight, 0).astype(low.dtype)


def _weigh_whole_pixels(
    low: _Edges, high: _Edges, pixels: _Pixels, cells: int, xp: ModuleType
) -> Float[Array | np.ndarray, "n pixels cells"]:
    """As `_weigh_centres`; cells are counted without the ring of zeros."""
    middle, half = (high + low) * 0.5, (high - low) * 0.5
    half = half * np.float32((cells + 2) / cells)
    first, last = xp.trunc(middle - half), xp.trunc(middle + half)
    count = xp.maximum(last - first + 1, 1)
    place = (pixels - first + 0.5) * ((cells + 2) / count) - 1.5
    weight = xp.maximum(1 - abs(place - xp.arange(cells)), 0)
    return xp.where((pixels >= first) & (pixels <= last), weight, 0).astype(low.dtype)
