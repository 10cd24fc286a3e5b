"""Proposals of regions for a data set: computed once by selective search, and kept in a file.

Selective search takes about 3 s for an image of 500 x 375 pixels, and 0.03 s for a digit scene. So
the proposals of a split are computed before the first batch, by several processes, and written into
a cache; the next run with the same data and settings reads them from there.
"""

import dataclasses
import hashlib
import io
import json
import logging
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int, UInt8

from zoo.classical.selective_search import propose
from zoo.data.decode import example_image
from zoo.data.detection_config import DetectionData
from zoo.data.errors import DataError
from zoo.data.object_sources import DetectionSource
from zoo.ops.ragged import lengths_to_offsets
from zoo.types import ProposalSearch
from zoo.writing import write_whole

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Shows the progress of a loop: (items, description, number of items) -> the same items."""

_VERSION = 1  # to be raised when selective search finds other boxes with the same settings
_COMPARED = 16  # images whose pixels the name of a cached file depends on
_FOR_A_PROCESS = 200  # images that are worth the start of a process


@dataclasses.dataclass(frozen=True)
class ProposalTable:
    """The proposals of all images of a split.

    Attributes:
        boxes: ``xyxy`` in pixels of the images, one image after the other.
        offsets: Image i has the boxes from number ``offsets[i]`` to ``offsets[i + 1]``.
    """

    boxes: Float32[np.ndarray, "t 4"]
    offsets: Int[np.ndarray, " n_plus_1"]

    def __getitem__(self, index: int) -> Float32[np.ndarray, "r 4"]:
        return self.boxes[self.offsets[index] : self.offsets[index + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def silent(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    return items


def proposals_of(
    source: DetectionSource, config: DetectionData, split: Literal["train", "eval"], track: Track
) -> ProposalTable:
    """The proposals of a source, from the cache if they are there.

    Args:
        source: The images.
        config: Its `search` has the settings.
        split: Which split of the config the source is.
        track: Shows the progress.

    Returns:
        The proposals; an image that cannot be read has none.
    """
    path = _cached_file(source, config, split)
    if (found := _read(path, len(source))) is not None:
        return found
    searched = track(_searched(source, config), f"selective search ({split})", len(source))
    boxes = list(searched)
    table = ProposalTable(
        np.concatenate(boxes), lengths_to_offsets(np.array([len(one) for one in boxes]))
    )
    content = io.BytesIO()
    np.savez(content, boxes=table.boxes, offsets=table.offsets)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    except OSError as error:
        logging.getLogger(__name__).warning("%s: proposals are not kept: %s", path, error)
    return table


def search_images(
    images: Iterable[UInt8[np.ndarray, "h w 3"] | None],
    search: ProposalSearch,
    processes: int,
) -> Iterator[Float32[np.ndarray, "_ 4"]]:
    """The proposals of images, in their order.

    Args:
        images: RGB images; None for one that cannot be read.
        search: The settings.
        processes: With less than 2, this process does the work.
    """
    find = partial(propose, search=search)
    if processes < 2:
        yield from map(find, images)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(find, images, chunksize=4)


def _searched(
    source: DetectionSource, config: DetectionData
) -> Iterator[Float32[np.ndarray, "_ 4"]]:
    images = (_image(source, index, config) for index in range(len(source)))
    processes = min(_processors(), len(source) // _FOR_A_PROCESS)
    return search_images(images, config.search, processes)


def _processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux has it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _image(
    source: DetectionSource, index: int, config: DetectionData
) -> UInt8[np.ndarray, "h w 3"] | None:
    """An image; None if it cannot be read, which the loader reports when it comes to it."""
    try:
        return example_image(source[index], upright=config.upright)
    except DataError:
        return None


def _cached_file(
    source: DetectionSource, config: DetectionData, split: Literal["train", "eval"]
) -> Path:
    """The file of a source's proposals: its name depends on everything that they depend on."""
    name = config.train_split if split == "train" else config.eval_split
    what = (config.source, name, len(source), config.upright, dataclasses.asdict(config.search))
    digest = hashlib.sha256(json.dumps([_VERSION, *what]).encode())
    chosen = np.linspace(0, len(source) - 1, min(_COMPARED, len(source))).astype(int)
    for index in chosen.tolist():
        image = _image(source, index, config)
        digest.update(repr(None if image is None else image.shape).encode())
        digest.update(b"" if image is None else np.ascontiguousarray(image).tobytes())
    folder = config.proposal_cache
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "jax-vision-zoo" / "proposals"
    return Path(folder).expanduser() / f"{digest.hexdigest()[:32]}.npz"


def _read(path: Path, count: int) -> ProposalTable | None:
    """The table in a file; None without the file, or if it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            table = ProposalTable(file["boxes"], file["offsets"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logging.getLogger(__name__).warning("%s: damaged, computed again: %s", path, error)
        return None
    return table if len(table) == count else None
