"""Recognises a user's own folder of data that was given without its kind, as in ``photos``."""

import itertools
from collections.abc import Iterable
from pathlib import Path

_LOOKED_AT = 1_000  # names in a folder

# What a path holds, by the kind that is written before it; masks are told from classes below.
_HOLDS = {
    "coco": "boxes in COCO's json",
    "voc": "annotations of PASCAL VOC",
    "pairs": "pairs of texts",
    "masks": "images and masks",
    "folder": "class folders of images",
}


def own_data_hint(source: str, others: Iterable[str] = ()) -> str | None:
    """A text that says how a file or folder of this name is given as data; None without one.

    Args:
        source: What was given as data.
        others: What may be given, such as ``folder:PATH``; empty if anything may.
    """
    path = Path(source).expanduser()
    if not source or not path.exists() or (kind := _kind(path)) is None:
        return None
    prefix = "folder" if kind == "masks" else kind
    known = [text.partition(":")[0] for text in others if ":" in text]
    of_masks = any(text == "digit_scenes" for text in others) and "folder" in known
    right = not known or (prefix in known and (prefix != "folder" or of_masks == (kind == "masks")))
    if right:
        return f"{source} holds {_HOLDS[kind]}: write {prefix}:{source}"
    return f"{source} holds {_HOLDS[kind]}, which are for another task; use {', '.join(others)}"


def _kind(path: Path) -> str | None:
    """What a path holds: a key of `_HOLDS`."""
    if path.is_file():
        return "pairs" if path.suffix.lower() in (".tsv", ".txt") else None
    names = _names(path)
    parts = {name: _names(path / name) for name in itertools.islice(sorted(names), 20)}
    inside = names.union(*parts.values())
    if _with(parts.get("annotations", ()), ".json"):
        return "coco"
    if {"JPEGImages", "ImageSets"} & names or _with(inside, ".xml"):
        return "voc"
    if "classes.txt" in names or any({"images", "masks"} <= part for part in parts.values()):
        return "masks"
    if _with(inside, ".json"):
        return "coco"
    if _with(names, ".tsv"):
        return "pairs"
    return "folder" if any(parts.values()) else None


def _names(folder: Path) -> set[str]:
    """Names of the first files and folders in a folder, without hidden ones; none in a file."""
    if not folder.is_dir():
        return set()
    first = itertools.islice(folder.iterdir(), _LOOKED_AT)
    return {path.name for path in first if not path.name.startswith(".")}


def _with(names: Iterable[str], suffix: str) -> bool:
    return any(name.lower().endswith(suffix) for name in names)
