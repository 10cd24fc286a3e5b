"""Text of files and names: one way to read it for json, xml, lists and tables of any encoding.

The encoding is that of a byte order mark, UTF-16 or UTF-32 if that is certain without one, the one
that an xml file declares, or UTF-8. There is no guessing: any other file is an error.
"""

import json
import re
from pathlib import Path

_XML_ENCODING = re.compile(rb"\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([\w.:-]+)")
# Soft hyphen, zero-width space, marks of direction, word joiner, byte order mark.
_UNSEEN = (
    0xAD,
    0x200B,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    0x2060,
    *range(0x2066, 0x206A),
    0xFEFF,
)
_CONTROLS = (*range(0x20), *range(0x7F, 0xA1))  # the last one is the no-break space
_HALVES = range(0xD800, 0xE000)  # a json's escape of half a character, which cannot be printed
_PLAIN = {
    **dict.fromkeys(_CONTROLS, " "),
    **dict.fromkeys(_UNSEEN),
    **dict.fromkeys(_HALVES, "\ufffd"),
}

# Words for yes and no, in lower case, as annotation tools write them.
FLAGS = {
    **dict.fromkeys(("true", "yes", "y", "t", "1", "on"), True),
    **dict.fromkeys(("false", "no", "n", "f", "0", "off", "", "none", "null"), False),
}


class TextError(ValueError):
    """Bytes that are not text in a known encoding; the message is one line without the path."""


def read_text(path: Path) -> str:
    r"""The text of a file, with line ends ``\n``.

    Raises:
        TextError: See `decode_text`.
        OSError: If the file cannot be read.
    """
    return decode_text(path.read_bytes())


def decode_text(data: bytes) -> str:
    r"""The text of a file's bytes, without a byte order mark and with line ends ``\n``.

    >>> decode_text("Bär\r\n".encode("utf-16"))
    'Bär\n'

    Raises:
        TextError: If the bytes are not text in the encoding; the message says where.
    """
    encoding = json.detect_encoding(data)
    if encoding == "utf-8" and (declared := _XML_ENCODING.match(data[:200])):
        name = declared[1].decode("ascii", "replace")
        # Some tools declare UTF-16 and write UTF-8: the declaration itself would be in UTF-16.
        encoding = encoding if name.lower().startswith(("utf-16", "utf16", "ucs")) else name
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextError(_not_in(encoding, data, error.start)) from None
    except (LookupError, UnicodeError):
        raise TextError(f"its encoding {encoding!r} is unknown; convert it to UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TextError(f"not text: a byte 0 in line {line}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _not_in(encoding: str, data: bytes, start: int) -> str:
    line = data.count(b"\n", 0, start) + 1
    place = start - data.rfind(b"\n", 0, start)
    near = data[max(start - 12, start - place + 1) : start + 12].split(b"\n")[0]
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    return (
        f"not text in {name}: byte 0x{data[start]:02x} at line {line}, byte {place} of it, in"
        f" {str(near)[1:]}; convert the file to UTF-8"
    )


def plain_name(text: str) -> str:
    r"""A name without invisible characters: none at its ends, ordinary spaces inside.

    >>> plain_name("\ufeffpolar\xa0bear ")
    'polar bear'
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    return text.translate(_PLAIN).strip()
