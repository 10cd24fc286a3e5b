"""Pairs of a text and its translation: number words, files, or a TFDS set of translations."""

import functools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.errors import DataError
from zoo.data.formats.folders import read_text
from zoo.data.formats.tfds import features_of, records_of, tfds_builder

Pairs = Sequence[tuple[str, str]]

NUMBERS = 1_000_000
HELD_OUT = 1_000
_SMALL = 10_000
_TRAIN = 30_000
_EVAL_SHARE = 20  # one in twenty lines of a file is held out


def open_pairs(source: str, data_dir: str | None, split: str, languages: tuple[str, str]) -> Pairs:
    """The pairs of one split of a source.

    Args:
        source: ``number_words``; ``pairs:PATH``; or the name of a TFDS set of translations, such
            as ``wmt14_translate/de-en``.
        data_dir: Folder of TFDS's data sets.
        split: ``train`` or ``test``; for a folder, a file's name without .tsv; or a TFDS split.
        languages: Codes of the source and the target language, as in TFDS and num2words.

    Raises:
        DataError: If the source or split does not exist, or a line of a file is not a pair.
    """
    if source == "number_words":
        return number_words(split, languages)
    if source.startswith("pairs:"):
        return _file_pairs(Path(source.removeprefix("pairs:")).expanduser(), split)
    others = ("number_words", "pairs:PATH")
    builder: Any = tfds_builder(source, data_dir, others)
    there = features_of(builder, source)
    if missing := [language for language in languages if language not in there]:
        raise DataError(
            f"data {source!r} has no language {missing[0]!r}; its features are"
            f" {', '.join(sorted(there))}"
        )
    records = records_of(builder, source, split, images=())
    texts = ([_text(record[language]) for language in languages] for record in records)
    return [(first, second) for first, second in texts]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@functools.lru_cache(maxsize=4)
def number_words(split: str, languages: tuple[str, str] = ("en", "de")) -> Pairs:
    """Numbers below a million as words in two languages, made by the package num2words.

    The words are separated only by spaces: "nine hundred and ninety nine thousand and one".

    Args:
        split: ``test``: 1,000 random numbers. ``train``: 30,000 other numbers, among them all
            below 10,000 that are not in ``test``.
        languages: Codes of the two languages.

    Raises:
        DataError: If there is no such split or language, or the package is missing.
    """
    try:
        from num2words import num2words
    except ImportError as error:
        raise DataError(
            "number_words needs the package num2words: pip install num2words"
        ) from error
    # numpy guarantees that RandomState's numbers never change; default_rng's may.
    order = np.random.RandomState(0).permutation(NUMBERS)
    held_out, rest = order[:HELD_OUT], order[HELD_OUT:]
    if split == "test":
        numbers = held_out
    elif split == "train":
        rest = np.concatenate([rest[rest < _SMALL], rest[rest >= _SMALL]])
        numbers = rest[:_TRAIN]
    else:
        raise DataError(f"number_words has no split {split!r}; there are train, test")
    plain = str.maketrans({"-": " ", ",": ""})

    def words(number: int, language: str) -> str:
        try:
            return num2words(number, lang=language).translate(plain)
        except NotImplementedError as error:
            raise DataError(f"num2words has no language {language!r}") from error

    first, second = languages
    return [(words(n, first), words(n, second)) for n in numbers.tolist()]


def _file_pairs(path: Path, split: str) -> Pairs:
    """The lines ``text TAB translation`` of a split.

    For a folder, the lines of its file SPLIT.tsv. For a file, about one line in twenty is in the
    test split: a hash of the first text decides, so that equal texts are in the same split.
    """
    if path.is_dir():
        return _read_lines(path / f"{split}.tsv")
    if split not in ("train", "test"):
        raise DataError(f"{path} has no split {split!r}; a file has train, test")
    pairs = _read_lines(path)
    held_out = [zlib.crc32(first.encode()) % _EVAL_SHARE == 0 for first, _ in pairs]
    chosen = [p for p, out in zip(pairs, held_out, strict=True) if out == (split == "test")]
    if not chosen:
        raise DataError(f"{path}: none of its {len(pairs)} pairs is for the {split} split")
    return chosen


def _read_lines(path: Path) -> Pairs:
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path}: no pairs: the file is empty")
    lines = text.removesuffix("\n").split("\n")
    pairs = []
    for number, line in enumerate(lines, start=1):
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 2 or not all(parts):
            raise DataError(
                f"{path}:{number}: not two texts with a tab between them: {line[:60]!r}"
            )
        pairs.append((parts[0], parts[1]))
    return pairs
