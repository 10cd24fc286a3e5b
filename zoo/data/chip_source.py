"""Detection data cut into chips: see `zoo.data.chips`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from zoo.data.annotations import Annotations, Joints, xywh_to_xyxy
from zoo.data.augment.picture import Size
from zoo.data.chips import ChipRule, Windows, contain
from zoo.data.detection_config import DetectionData
from zoo.data.errors import DataError
from zoo.data.object_sources import DetectionSource
from zoo.data.proposals import Track
from zoo.data.transforms import fast_resize
from zoo.ops import rle
from zoo.ops.rle import Masks


@dataclasses.dataclass(frozen=True)
class Chip:
    """What is cut out of an image.

    Attributes:
        window: Left, top, right and bottom in pixels of the image.
        size: Height and width after resizing.
        image_size: Height and width of the image.
    """

    window: tuple[int, int, int, int]
    size: Size
    image_size: Size

    def pixels(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
        """The chip's pixels."""
        left, top, right, bottom = self.window
        return fast_resize(image[top:bottom, left:right], self.size, "bilinear")

    def masks(self, masks: Masks) -> Masks:
        """The parts of masks of the image that are in the chip."""
        left, top, right, bottom = self.window
        found = np.zeros((len(masks), *self.size), bool)
        for i, one in enumerate(found):
            part = np.ascontiguousarray(masks.columns(i, left, right)[top:bottom]).view(np.uint8)
            one[:] = cv2.resize(part, self.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return rle.from_arrays(found)

    def places(self, xy: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Places in pixels of the image, in pixels of the chip."""
        left, top, right, bottom = self.window
        # Multiply first, then divide: the edge of the window is exactly the edge of the chip.
        return (xy - (left, top)) * self.size[::-1] / (right - left, bottom - top)


@dataclasses.dataclass(frozen=True)
class ChipSource:
    """The chips of a source's images, as a source of images; a chip's index is its own.

    An object counts in a chip if it is of the sizes of the chip's scale and wholly in the chip. All
    others of which a part is there are ignored: neither objects nor background.

    Deviations from the reference: an object that is wholly in two chips of a scale counts in both,
    and not only in the first; of objects that are ignored, parts below 10 pixels of the chip are,
    too, and not background.

    Attributes:
        source: The images.
        rule: How they are cut.
        images: The position in `source` of each chip's image.
        windows: The windows of the chips.
        scales: The number of each chip's scale.
        sizes: Height and width of each chip.
        target_counts: Number of objects of which a part is in each chip, ignored ones included.
    """

    source: DetectionSource
    rule: ChipRule
    images: Int[np.ndarray, " c"]
    windows: Windows
    scales: Int[np.ndarray, " c"]
    sizes: Int[np.ndarray, "c 2"]
    target_counts: Int[np.ndarray, " c"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by label."""
        return self.source.class_names

    @property
    def category_ids(self) -> tuple[int | str | None, ...]:
        """The data's own id of each label."""
        return self.source.category_ids

    @property
    def joints(self) -> Joints | None:
        """The joints of the keypoints; None without keypoints."""
        return self.source.joints

    def __len__(self) -> int:
        return len(self.images)

    def chip(self, index: int) -> Chip:
        """What is cut out of its image."""
        left, top, right, bottom = self.windows[index].tolist()
        rows, columns = self.sizes[index].tolist()
        height, width = self.source.sizes[self.images[index]].tolist()
        return Chip((left, top, right, bottom), (rows, columns), (height, width))

    def annotations(self, index: int) -> Annotations:
        """The objects of which a part is in the chip, in pixels of the chip."""
        return self._cut(index, self.source.annotations(int(self.images[index])))

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The whole image as ``image``, the ``chip``, and the ``annotations`` of the chip."""
        raw = self.source[int(self.images[index])]
        annotations = self._cut(index, raw["annotations"])
        chip = self.chip(index)
        return {**raw, "index": index, "annotations": annotations, "chip": chip}

    def _cut(self, index: int, found: Annotations) -> Annotations:
        chip, scale = self.chip(index), self.rule.scales[self.scales[index]]
        boxes = clipped_boxes(found)
        whole = contain(self.windows[index][None], boxes)[0] & scale.has(boxes)
        low, high = np.clip(chip.places(boxes.reshape(-1, 2, 2)), 0, chip.size[::-1]).swapaxes(0, 1)
        kept = (high > low).all(axis=1)
        keypoints = found.keypoints
        if keypoints is not None:
            keypoints = _cut_keypoints(keypoints[kept], chip)
        left, top, right, bottom = chip.window
        enlarged = np.prod(chip.size) / ((right - left) * (bottom - top))
        return Annotations(
            found.image_id,
            chip.size,
            np.concatenate([low, high - low], axis=1)[kept],
            found.labels[kept],
            found.areas[kept] * enlarged,
            found.crowd[kept],
            found.difficult[kept],
            None if found.masks is None else chip.masks(found.masks.take(np.flatnonzero(kept))),
            keypoints,
            None if keypoints is None else (keypoints[..., 2] > 0).sum(axis=1),
            ignored=(found.targets & ~whole)[kept],
        )


def clipped_boxes(found: Annotations) -> Float[np.ndarray, "n 4"]:
    """The boxes of an image's objects, ``xyxy``, within the image."""
    return np.clip(xywh_to_xyxy(found.boxes_xywh), 0, np.tile(found.size[::-1], 2))


def _cut_keypoints(keypoints: Float[np.ndarray, "n j 3"], chip: Chip) -> Float[np.ndarray, "n j 3"]:
    """Keypoints in pixels of a chip; those outside have no visibility, and are 0."""
    places, limits = chip.places(keypoints[..., :2]), chip.size[::-1]
    inside: Bool[np.ndarray, "n j"] = np.all((places >= 0) & (places <= limits), axis=-1)
    seen = inside & (keypoints[..., 2] > 0)
    moved = np.concatenate([places, keypoints[..., 2:]], axis=-1)
    return np.where(seen[..., None], moved, 0.0)


def open_chips(
    source: DetectionSource,
    config: DetectionData,
    annotations: Callable[[int], Annotations],
    proposals: Mapping[Any, Float[np.ndarray, "_ 4"]] | None,
    track: Track,
) -> ChipSource:
    """Cuts all images of a source into chips, each in the same way every time.

    Args:
        source: The images.
        config: Its fields that begin with ``chip`` say how.
        annotations: The objects of each image; masks are not used, and would take most of the time.
        proposals: The contents of `chip_proposals`, boxes ``xyxy`` by image id; None without it.
        track: Shows the progress.

    Raises:
        DataError: If no image has a chip, or there are proposals, but none for these images.
    """
    c = config
    rule = ChipRule(c.chips, c.chip_side, c.chip_stride, c.chip_negatives)
    parts, known = [], 0
    for image in track(range(len(source)), "cutting images into chips", len(source)):
        found = annotations(image)
        others = None
        if proposals is not None:
            others = proposals.get(found.image_id, np.zeros((0, 4)))
            others = np.clip(others, 0, np.tile(found.size[::-1], 2))
            known += len(others)
        parts.append(_chips_of(image, found, others, rule))
    if proposals is not None and not known:
        raise DataError(f"{c.chip_proposals}: has proposals for none of the images of the data")
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    chips = ChipSource(source, rule, *columns)
    if not len(chips):
        raise DataError("data.chips: no object has a size of one of the scales")
    return chips


def _chips_of(
    image: int, found: Annotations, proposals: Float[np.ndarray, "p 4"] | None, rule: ChipRule
) -> tuple[np.ndarray, ...]:
    """The columns of `ChipSource` for an image, `images` to `target_counts`."""
    boxes = clipped_boxes(found)[found.targets]
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    windows, scales = rule.cut(found.size, boxes, proposals, np.random.default_rng(image))
    sizes = np.zeros((len(windows), 2), np.int64)
    for number, scale in enumerate(rule.scales):
        sizes[scales == number] = rule.chip_size(found.size, windows[scales == number], scale)
    low = np.maximum(windows[:, None, :2], boxes[:, :2])
    high = np.minimum(windows[:, None, 2:], boxes[:, 2:])
    counts = (high > low).all(axis=-1).sum(axis=1)
    return np.full(len(windows), image), windows, scales, sizes, counts
