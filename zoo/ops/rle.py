"""Run-length masks, many at a time.

A mask is stored as the sorted positions, called toggles, at which its pixels change value when they
are read column by column from the top left: start, end, start, end, ... of the foreground runs.
`Masks` holds many such lists end to end, so that areas, boxes and overlaps of hundreds of thousands
of masks take a few numpy calls. COCO's run lengths, plain and compressed, and boolean arrays can be
converted to it; for polygons see `zoo.ops.polygons`. Reference: COCO's maskApi.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from zoo.ops.ragged import blocks, lengths_to_offsets, spread

_TOGGLES_AT_ONCE = 1 << 18


@dataclasses.dataclass(frozen=True)
class Masks:
    """Masks of n objects as run-length toggles.

    Attributes:
        toggles: Positions ``x * height + y`` where runs start and end; an even number in each mask.
        offsets: Mask i owns ``toggles[offsets[i]:offsets[i + 1]]``.
        sizes: Height and width of each mask's image, in pixels.
    """

    toggles: Int32[np.ndarray, " t"]
    offsets: Int[np.ndarray, " n_plus_1"]
    sizes: Int[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, indices: Int[np.ndarray, " m"]) -> "Masks":
        """The masks at `indices`, in that order."""
        lengths = np.diff(self.offsets)[indices]
        positions = spread(self.offsets[indices], lengths)
        return Masks(self.toggles[positions], lengths_to_offsets(lengths), self.sizes[indices])

    @staticmethod
    def concatenate(parts: Sequence["Masks"]) -> "Masks":
        """The masks of all `parts`, in order."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return Masks(
            np.concatenate([part.toggles for part in parts]),
            lengths_to_offsets(lengths),
            np.concatenate([part.sizes for part in parts]),
        )

    def split(self) -> Iterator["Masks"]:
        """The same masks in several pieces whose toggles fit a processor's cache."""
        for part in blocks(self.offsets, _TOGGLES_AT_ONCE):
            offsets = self.offsets[part.start : part.stop + 1]
            toggles = self.toggles[offsets[0] : offsets[-1]]
            yield Masks(toggles, offsets - offsets[0], self.sizes[part])

    def areas(self) -> Int[np.ndarray, " n"]:
        """Foreground pixels of each mask."""
        return np.concatenate([_areas(part) for part in self.split()])

    def boxes_xywh(self) -> Float[np.ndarray, "n 4"]:
        """Smallest box around each mask in whole pixels; zeros for an empty mask."""
        return np.concatenate([_boxes_xywh(part) for part in self.split()])

    def to_arrays(self) -> list[Bool[np.ndarray, "h w"]]:
        """Each mask as a boolean array."""
        widths = self.sizes[:, 1].tolist()
        return [self.columns(i, 0, width) for i, width in enumerate(widths)]

    def columns(self, index: int, first: int, last: int) -> Bool[np.ndarray, "h columns"]:
        """The columns `first` up to, but not including, `last` of one mask."""
        height = int(self.sizes[index, 0])
        start, stop = first * height, last * height
        toggles = self.toggles[self.offsets[index] : self.offsets[index + 1]]
        before, within = np.searchsorted(toggles, (start, stop)).tolist()
        flips = np.zeros(stop - start, np.uint8)
        np.add.at(flips, toggles[before:within] - start, 1)
        flips[:1] += before % 2
        values = np.cumsum(flips, dtype=np.uint8) % 2 == 1  # overflow keeps what is odd
        return values.reshape(last - first, height).T


def _areas(masks: Masks) -> Int[np.ndarray, " n"]:
    runs = lengths_to_offsets(masks.toggles[1::2] - masks.toggles[::2])
    return np.diff(runs[masks.offsets // 2])


def _boxes_xywh(masks: Masks) -> Float[np.ndarray, "n 4"]:
    run_mask = np.repeat(np.arange(len(masks)), np.diff(masks.offsets) // 2)
    starts, ends = masks.toggles[::2], masks.toggles[1::2]
    solid = ends > starts
    run_mask, starts, lasts = run_mask[solid], starts[solid], ends[solid] - 1
    heights = masks.sizes[run_mask, 0].astype(np.int32)
    x1, x2 = starts // heights, lasts // heights
    y1, y2 = starts - x1 * heights, lasts - x2 * heights
    wraps = x1 < x2  # such a run includes the bottom of a column and the top of the next
    y1, y2 = np.where(wraps, 0, y1), np.where(wraps, heights - 1, y2)
    boxes = np.zeros((len(masks), 4))
    if len(run_mask):
        first = np.flatnonzero(np.diff(run_mask, prepend=-1))
        least = [np.minimum.reduceat(v, first) for v in (x1, y1)]
        most = [np.maximum.reduceat(v, first) for v in (x2, y2)]
        sides = [high - low + 1 for low, high in zip(least, most, strict=True)]
        boxes[run_mask[first]] = np.stack([*least, *sides], axis=-1)
    return boxes


class MaskError(ValueError):
    """Unusable masks: `rows` has their indices; the message describes the first one."""

    def __init__(self, rows: Int[np.ndarray, " r"], message: str) -> None:
        super().__init__(message)
        self.rows = rows


def intersections(
    a: Masks, b: Masks, rows_a: Int[np.ndarray, " p"], rows_b: Int[np.ndarray, " p"]
) -> Int[np.ndarray, " p"]:
    """Number of common pixels of each pair ``a[rows_a[i]], b[rows_b[i]]``, in images of equal size.

    The intersection is the sum over the toggles of a, with alternating sign, of the number of b's
    pixels before the toggle.
    """
    span = int(max(a.sizes.prod(axis=1).max(initial=0), b.sizes.prod(axis=1).max(initial=0))) + 1
    keys = b.toggles + np.repeat(np.arange(len(b)) * span, np.diff(b.offsets))
    signed = lengths_to_offsets(b.toggles * np.where(np.arange(len(b.toggles)) % 2, 1, -1))
    lengths = np.diff(a.offsets)[rows_a]
    work = lengths_to_offsets(lengths)
    common = np.empty(len(rows_a), np.int64)
    for part in blocks(work, _TOGGLES_AT_ONCE):
        positions = a.toggles[spread(a.offsets[rows_a[part]], lengths[part])]
        owner = np.repeat(rows_b[part], lengths[part])
        passed = np.searchsorted(keys, positions + owner * span, side="right")
        # Runs start at even toggles: after an odd number of toggles the position is inside a run.
        left = positions * (passed % 2) + signed[passed] - signed[b.offsets[owner]]
        left[::2] *= -1
        common[part] = np.diff(lengths_to_offsets(left)[lengths_to_offsets(lengths[part])])
    return common


def from_counts(
    counts: Int[np.ndarray, " c"], lengths: Int[np.ndarray, " n"], sizes: Int[np.ndarray, "n 2"]
) -> Masks:
    """Masks from the run lengths, background first, of n masks end to end.

    Raises:
        MaskError: If a run is negative, or the runs of a mask do not cover its image.
    """
    offsets = lengths_to_offsets(lengths)
    ends = lengths_to_offsets(counts)
    totals = ends[offsets[1:]] - ends[offsets[:-1]]
    if len(negative := np.flatnonzero(counts < 0)):
        rows = np.unique(np.searchsorted(offsets, negative, side="right") - 1)
        raise MaskError(rows, "a run of negative length")
    wrong = np.flatnonzero(totals != sizes.prod(axis=1))
    if len(wrong):
        i = wrong[0]
        raise MaskError(
            wrong, f"runs cover {totals[i]} pixels of an image of {sizes[i, 0]} x {sizes[i, 1]}"
        )
    toggles = ends[1:] - np.repeat(ends[offsets[:-1]], lengths)
    keep = np.ones(len(toggles), bool)
    keep[offsets[1:][lengths % 2 == 1] - 1] = False  # the background run that ends the image
    return Masks(toggles[keep].astype(np.int32), lengths_to_offsets(lengths - lengths % 2), sizes)


def from_strings(strings: Sequence[str | bytes], sizes: Int[np.ndarray, "n 2"]) -> Masks:
    """Masks from COCO's compressed run lengths.

    A count is written in groups of five bits, least significant first, each as the character 48 +
    bits; + 32 if another group follows. Bit 16 of the last group means that the number is negative.
    From the fourth count on, the difference to the second count before is stored.

    Raises:
        MaskError: If a string is damaged, or its runs do not cover its image.
    """
    raw = [s.encode(errors="surrogatepass") if isinstance(s, str) else s for s in strings]
    offsets = lengths_to_offsets(np.array([len(s) for s in raw], int))
    parts = []
    for part in blocks(offsets, _TOGGLES_AT_ONCE):
        try:
            parts.append(
                _from_strings(b"".join(raw[part]), offsets[part.start : part.stop + 1], sizes[part])
            )
        except MaskError as error:
            raise MaskError(error.rows + part.start, str(error)) from None
    return Masks.concatenate(parts)


def _from_strings(
    joined: bytes, offsets: Int[np.ndarray, " n_plus_1"], sizes: Int[np.ndarray, "n 2"]
) -> Masks:
    codes = np.frombuffer(joined, np.uint8) - np.uint8(48)
    ends = offsets[1:] - offsets[0]
    empty = np.flatnonzero(np.diff(offsets) == 0)
    cut_off = np.flatnonzero(codes[np.maximum(ends, 1) - 1] & 32) if len(codes) else empty
    foreign = np.searchsorted(ends, np.flatnonzero(codes > 63), side="right")
    if len(rows := np.unique(np.concatenate([empty, cut_off, foreign]))):
        raise MaskError(rows, "compressed run lengths are damaged")
    stop = np.flatnonzero(codes < 32) + 1
    start = np.append(0, stop)[:-1]
    widths = stop - start
    values = (codes[start] & 31).astype(np.int64)
    for i in range(1, int(widths.max(initial=0))):
        longer = np.flatnonzero(widths > i)
        values[longer] |= (codes[start[longer] + i] & 31).astype(np.int64) << 5 * i
    values -= (codes[stop - 1] & 16).astype(np.int64) << 5 * widths - 4
    lengths = np.diff(np.searchsorted(stop, ends, side="right"), prepend=0)
    return from_counts(_undo_differences(values, lengths), lengths, sizes)


def _undo_differences(
    values: Int[np.ndarray, " c"], lengths: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " c"]:
    """Running sums over every second value of each mask; the first value stays as it is."""
    first = lengths_to_offsets(lengths)[:-1]
    odd = (np.arange(len(values)) - np.repeat(first % 2, lengths)) % 2 == 1
    heads = values[first]
    values[first] = 0
    sums = [lengths_to_offsets(np.where(chosen, values, 0)) for chosen in (~odd, odd)]
    before = [np.repeat(chain[first], lengths) for chain in sums]
    counts = np.where(odd, sums[1][1:] - before[1], sums[0][1:] - before[0])
    counts[first] = heads
    return counts


def from_arrays(arrays: Bool[np.ndarray, "n h w"]) -> Masks:
    """Masks from boolean arrays of one size.

    >>> masks = from_arrays(np.array([[[True, True, False], [True, True, False]]]))
    >>> masks.toggles.tolist(), to_strings(masks)
    ([0, 4], ['042'])
    """
    n, height, width = arrays.shape
    flat = arrays.transpose(0, 2, 1).reshape(n, height * width)
    edges = np.diff(flat.astype(np.int8), axis=1, prepend=0, append=0) != 0
    rows, toggles = np.nonzero(edges)
    lengths = np.bincount(rows, minlength=n)
    return Masks(
        toggles.astype(np.int32), lengths_to_offsets(lengths), np.tile([[height, width]], (n, 1))
    )


def to_strings(masks: Masks) -> list[str]:
    """COCO's compressed run lengths of each mask: the inverse of `from_strings`."""
    strings = []
    for i, size in enumerate(masks.sizes):
        toggles = masks.toggles[masks.offsets[i] : masks.offsets[i + 1]]
        full = len(toggles) > 0 and toggles[-1] == size.prod()
        ends = toggles if full else np.append(toggles, size.prod())
        counts = np.diff(ends, prepend=0).tolist()
        characters = []
        for j, count in enumerate(counts):
            x = count - counts[j - 2] if j > 2 else count
            more = True
            while more:
                code, x = x & 31, x >> 5
                more = x != (-1 if code & 16 else 0)
                characters.append(chr(code + 32 * more + 48))
        strings.append("".join(characters))
    return strings
