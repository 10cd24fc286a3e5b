"""Predictions for large images by overlapping windows."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from zoo.ops.tiles import Tiling, cut_tiles, join_tiles
from zoo.outputs import Segments


def make_tiling(model: Any, size: tuple[int, int], overlap: float = 0.25) -> Tiling:
    """The windows into which images are cut for a segmentation model.

    Args:
        model: A U-Net, with `margin`, `multiple` and `input_side`.
        size: Height and width of a window; a side that the model does not accept is made longer.
        overlap: Least share of a window that it has in common with its neighbours. A model with
            valid convolutions needs no overlap: its outputs are as good at the edges.
    """
    height, width = (model.input_side(max(side - 2 * model.margin, 1)) for side in size)
    least = min(height, width) - 2 * model.margin
    common = 0 if model.margin else min(int(overlap * least), least - model.multiple)
    return Tiling((height, width), model.margin, max(common, 0), model.multiple)


def predict_tiled(
    predict: Callable[[UInt8[np.ndarray, "b th tw 3"]], Segments],
    images: Iterable[UInt8[np.ndarray, "h w 3"]],
    tiling: Tiling,
    batch_size: int,
) -> Iterator[Segments]:
    """Predictions for images of any sizes, in the order of the images, by overlapping windows.

    Args:
        predict: Predicts the classes of `batch_size` windows.
        images: The images; they are read one at a time.
        tiling: See `make_tiling`.
        batch_size: Number of windows in one call of `predict`, from one image or several.
    """
    waiting: deque[tuple[int, int, int]] = deque()  # height, width and number of windows
    tiles: list[np.ndarray] = []
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def run(batch: list[np.ndarray]) -> None:
        windows = np.zeros((batch_size, *tiling.size, 3), np.uint8)
        windows[: len(batch)] = batch
        result = jax.device_get(predict(windows))
        found.extend(list(zip(result.labels, result.scores, strict=True))[: len(batch)])

    def finished() -> Iterator[Segments]:
        while waiting and waiting[0][2] <= len(found):
            height, width, count = waiting.popleft()
            labels, scores = (np.stack(part) for part in zip(*found[:count], strict=True))
            del found[:count]
            yield Segments(
                join_tiles(labels, tiling, height, width),
                join_tiles(scores, tiling, height, width),
            )

    for image in images:
        cut = cut_tiles(image, tiling)
        waiting.append((image.shape[0], image.shape[1], len(cut)))
        tiles.extend(cut)
        while len(tiles) >= batch_size:
            run(tiles[:batch_size])
            del tiles[:batch_size]
        yield from finished()
    if tiles:
        run(tiles)
    yield from finished()
