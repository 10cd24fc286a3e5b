"""Mends the end of a JPEG: removes stray bytes before the end marker, adds a missing end marker.

Cameras, converters and interrupted copies write such files; their pixels are complete. A file that
lacks a part of its pixels is not mended.
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # not inside entropy-coded data
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_FRAMES = (0xC0, 0xC1, 0xC2)  # Huffman-coded: baseline, extended, progressive
_SCAN, _END_CODE = 0xDA, 0xD9
_MOST_CUTS = 8  # libjpeg counts too few stray bytes where some are 0xff
_READ_AHEAD = 16  # bytes that libjpeg may have read after the last pixel and does not count

Decode = Callable[[bytes], UInt8[np.ndarray, "h w c"]]


class _Segment(NamedTuple):
    """A marker, its position, and what follows it up to its own length."""

    code: int
    position: int
    contents: bytes


def with_clean_end(data: bytes, decode: Decode) -> bytes | None:
    """The same JPEG with nothing between its last pixels and its end marker.

    The result is None if the file is truncated, or damaged in any other way. Its scans must have
    every coefficient of every component, and the bits up to the next whole byte must be 1, as
    encoders write them. Damage in the middle can also leave bytes before the end marker: the blocks
    that the decoder has no place for after it lost count. Bytes that can be read as blocks, up to
    the last byte, are therefore taken for damage.

    Args:
        data: A file that a strict decoder refuses.
        decode: The strict decoder.
    """
    segments = list(_segments(data))
    if not segments:
        return None
    ended = segments[-1].code == _END_CODE
    if not ended and not _complete(segments):
        return None
    body = data[: segments[-1].position] if ended else data
    body = whole = body.rstrip(b"\xff")  # bytes that may stand before any marker
    for _ in range(_MOST_CUTS):
        try:
            pixels = decode(body + _END)
        except ValueError as error:
            if (stray := _STRAY.search(str(error))) is None:
                return None
            body = body[: -int(stray[1])]
        else:
            clean = body == whole or _are_stray(whole, body, pixels, segments, decode)
            return body + _END if clean else None
    return None


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments of a file, up to its first end marker; entropy-coded data is skipped."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        start, code = found.end(), found[1][0]
        length = 0 if code == _END_CODE else int.from_bytes(data[start : start + 2], "big")
        at = start + length
        yield _Segment(code, found.start(), data[start + 2 : at])
        if code == _END_CODE or at > len(data):
            return


def _complete(segments: Sequence[_Segment]) -> bool:
    """Whether the scans have every coefficient of every component to its last bit."""
    frames = [segment.contents for segment in segments if segment.code in _FRAMES]
    if len(frames) != 1 or segments[-1].code != _SCAN:
        return False
    missing = {(part, k) for part in frames[0][6::3] for k in range(64)}
    for segment in segments:
        if segment.code != _SCAN:
            continue
        count = segment.contents[0] if segment.contents else 0
        if len(segment.contents) != 4 + 2 * count:
            return False
        first, last, bits = segment.contents[-3:]
        if not bits & 15:  # the lower half is the number of bits that later scans add
            parts = segment.contents[1 : 1 + 2 * count : 2]
            missing -= {(part, k) for part in parts for k in range(first, last + 1)}
    return not missing


def _are_stray(
    whole: bytes,
    body: bytes,
    pixels: UInt8[np.ndarray, "h w c"],
    segments: Sequence[_Segment],
    decode: Decode,
) -> bool:
    """Whether the bytes that `whole` has beyond `body` are no blocks of pixels."""

    def unchanged(shorter: bytes) -> bool:
        try:
            return np.array_equal(decode(shorter + _END), pixels)
        except ValueError:
            return False

    for _ in range(_READ_AHEAD):
        if not unchanged(body[:-1]):
            break
        body = body[:-1]
    rest = whole[len(body) :]
    body = body[:-1] if body.endswith(b"\xff\x00") else body
    last = body[-1]
    unused = _unused_bits(last, lambda other: unchanged(body[:-1] + _stuff(bytes([other]))))
    if unused is None:
        return False
    frames = [segment for segment in segments if segment.code in _FRAMES[:2]]
    scans = [segment for segment in segments if segment.code == _SCAN]
    if len(scans) > 1 or len(frames) != 1 or re.search(rb"\xff[^\x00]", rest, re.DOTALL):
        return True
    rest = rest.replace(b"\xff\x00", b"\xff")
    bits = (last & (1 << unused) - 1) << 8 * len(rest) | int.from_bytes(rest, "big")
    head = whole[: scans[0].position + 4 + len(scans[0].contents)]
    return not _are_blocks(head, frames[0], bits, unused + 8 * len(rest), decode)


def _unused_bits(last: int, unchanged: Callable[[int], bool]) -> int | None:
    """The number of bits at the end of a byte that no pixel depends on; None if one is 0."""
    for bit in range(7):
        if not unchanged(last ^ 1 << bit):
            return bit
        if not last >> bit & 1:
            return None
    return 7


def _are_blocks(head: bytes, frame: _Segment, bits: int, count: int, decode: Decode) -> bool:
    """Whether bits are whole blocks of pixels, up to the last byte and with 1 after the last.

    Args:
        head: The file up to the end of the header of its only scan.
        frame: The segment with its size and the sampling of its components.
        bits: The bits, as a number.
        count: How many there are.
        decode: The strict decoder.
    """
    sampling = frame.contents[7::3] if len(frame.contents) > 9 else b"\x11"
    sides = [8 * max(factor & 15 for factor in sampling), 8 * max(f >> 4 for f in sampling)]

    def reads(blocks: int, dropped: int, flipped: int = 0) -> bool:
        """Whether a picture of so many blocks needs no more than these bits."""
        kept = count - dropped
        fill = -kept % 8
        padded = ((bits ^ flipped) >> dropped << fill) | (1 << fill) - 1
        size = struct.pack(">HH", sides[0], sides[1] * blocks)
        at = frame.position + 5
        data = _stuff(padded.to_bytes((kept + fill) // 8, "big"))
        try:
            decode(head[:at] + size + head[at + 4 :] + data + _END)
        except ValueError as error:
            return _STRAY.search(str(error)) is not None
        return True

    least, most = 0, min(65535 // sides[1], count) + 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if reads(middle, 0) else (least, middle)
    if not least or count < 16 or reads(least, 8):
        return False
    return all(bits >> bit & 1 or not reads(least, 0, 1 << bit) for bit in range(2))


def _stuff(data: bytes) -> bytes:
    return data.replace(b"\xff", b"\xff\x00")
