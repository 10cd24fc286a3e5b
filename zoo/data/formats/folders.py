"""Reads folders: splits, slices of splits, files by name, and lists of class names."""

import hashlib
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.data.errors import DataError
from zoo.text_files import TextError, decode_text, plain_name

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
_EVAL_FOLDERS = ("val", "validation", "test")
# Names, in lower case, that systems and archives add; names that begin with a dot are foreign, too.
_FOREIGN = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"),
    *("$recycle.bin", "system volume information"),
}


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """The files and folders in a folder, sorted by name, without hidden and foreign ones.

    Left out are names that begin with a dot, such as macOS's ``._NAME`` and Jupyter's
    ``.ipynb_checkpoints``, and what systems add: ``Thumbs.db``, ``desktop.ini``, ``__MACOSX``.

    Raises:
        DataError: If the folder cannot be read.
    """
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    return [e for e in found if not e.name.startswith(".") and e.name.lower() not in _FOREIGN]


def files_of_type(folder: Path, suffix: str) -> list[Path]:
    """The files in a folder with a suffix, in any case of letters, sorted by name.

    Raises:
        DataError: If the folder cannot be read.
    """
    return [Path(e.path) for e in entries(folder) if e.name.lower().endswith(suffix)]


def find_file(folder: str | Path, name: str) -> str:
    r"""The path of a file that an annotation names.

    If there is no file of that very name, backslashes count as slashes, and the suffix may be in
    other letters: ``train\a.jpg`` finds ``train/a.JPG``. The path as named if nothing is found.
    """
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return path
    stem, suffix = os.path.splitext(os.path.join(folder, name.replace("\\", "/")))
    others = (stem + suffix, stem + suffix.lower(), stem + suffix.upper())
    return next((other for other in others if os.path.exists(other)), path)


def read_bytes(path: str | Path) -> bytes:
    """The contents of a file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a character 0 in the path
        raise DataError(f"{str(path)!r}: not a path: {error}") from error


def read_text(path: str | Path) -> str:
    """The text of a file, by the rules of `zoo.text_files`.

    Raises:
        DataError: If it cannot be read, or is not text in a known encoding.
    """
    try:
        return decode_text(read_bytes(path))
    except TextError as error:
        raise DataError(f"{path}: {error}") from error


def read_names(path: str | Path) -> list[str]:
    """The first word of each line of a list of names that is not blank.

    Raises:
        DataError: See `read_text`.
    """
    lines = (plain_name(line).split() for line in read_text(path).split("\n"))
    return [words[0] for words in lines if words]


def split_folder(path: Path, split: str) -> Path:
    """The sub-folder of a split.

    If there is no sub-folder ``val``, ``validation`` or ``test``, one of the other two is used.

    Raises:
        DataError: If there is no such sub-folder.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    names = [split, *(name for name in _EVAL_FOLDERS if split in _EVAL_FOLDERS and name != split)]
    for name in names:
        if (path / name).is_dir():
            return path / name
    there = [entry.name for entry in entries(path) if entry.is_dir()]
    raise DataError(
        f"{path}: no sub-folder {' or '.join(names)} for the split {split!r};"
        f" there are: {', '.join(there[:10]) or 'none'}"
    )


def slice_of(split: str, root: str | Path, paths: list[str]) -> list[int]:
    """Ascending indices of the images in a slice ``NAME[FROM:TO]``, in examples or percent.

    The images are sorted by hashes of their paths first, so that a slice has images of all classes.

    Raises:
        DataError: If there is no such slice.
    """
    import tensorflow_datasets as tfds  # the import takes a second, and most splits have no slice

    name = split.partition("[")[0]
    info: Any = types.SimpleNamespace(num_examples=len(paths))
    try:
        slices = tfds.core.ReadInstruction.from_spec(split).to_absolute({name: info})
    except ValueError as error:
        raise DataError(
            f"{root}: no slice {split!r} of its {len(paths)} images; slices are such as"
            f" {name}[:90%] or {name}[100:200]"
        ) from error
    order = sorted(range(len(paths)), key=lambda i: hashlib.sha256(paths[i].encode()).digest())
    return sorted(i for part in slices for i in order[part.from_ : part.to])


def files_by_name(root: str | Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Paths of the files below a folder, by name: the path in the folder without suffix.

    Raises:
        DataError: If there is no such folder, no such file, or two files have the same name.
    """
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder")
    found: dict[str, str] = {}
    for path in sorted(_walk(str(root))):
        name, suffix = os.path.splitext(os.path.relpath(path, root))
        if suffix.lower() in suffixes:
            if name in found:
                raise DataError(f"{path}: {os.path.basename(found[name])} has the same name")
            found[name] = path
    if not found:
        raise DataError(f"{root}: no images ({' '.join(suffixes)})")
    return dict(sorted(found.items()))


def _walk(folder: str) -> Iterator[str]:
    for entry in entries(folder):
        if entry.is_dir():
            yield from _walk(entry.path)
        else:
            yield entry.path


def read_class_names(path: str | Path, most: int) -> tuple[str, ...]:
    """Class names from a text file, one in each line; blank lines at the end do not count.

    Args:
        path: The file.
        most: Largest number of classes.

    Raises:
        DataError: If it cannot be read, has no names or too many, a blank line, or a name twice.
    """
    try:
        text = read_text(path)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix("cannot be read: ")
        raise DataError(
            f"{path}: cannot be read ({reason}); it must have one class name in each line, for the"
            " values 0, 1, ... of the masks"
        ) from error
    lines = text.split("\n")
    while lines and not plain_name(lines[-1]):
        lines.pop()
    names = tuple(map(plain_name, lines))
    if not 0 < len(names) <= most:
        raise DataError(f"{path}: {len(names)} names, not 1 to {most}")
    if "" in names:
        raise DataError(f"{path}: line {names.index('') + 1} is blank")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(f"{path}: line {i + 1}: {name!r} given twice")
    return names
