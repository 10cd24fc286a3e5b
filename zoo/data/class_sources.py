"""Sources of labelled images: the embedded digits, class folders, any TFDS classification set.

An element of a source is ``{"image": encoded bytes, "label": int, "name": str}``; errors call the
image by that name. Nothing here uses the network; only ``python -m zoo.data.prepare`` does.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from zoo.data.errors import DataError, some
from zoo.data.formats.folders import (
    IMAGE_SUFFIXES,
    entries,
    read_bytes,
    slice_of,
    split_folder,
)
from zoo.data.formats.tfds import (
    features_of,
    prepared_digits,
    read_record,
    records_of,
    tfds_builder,
)


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The images of one split in class folders: ``root/CLASS/**/IMAGE``, in sorted order."""

    root: str
    paths: list[str]  # relative to root
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = os.path.join(self.root, self.paths[index])
        return {"image": read_bytes(path), "label": int(self.labels[index]), "name": path}


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """The images of one split of a TFDS set, still encoded."""

    records: Sequence[Any]
    name: str
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self.name}[{index}]"
        record = read_record(self.records, index, name)
        return {"image": record["image"], "label": int(record["label"]), "name": name}


def open_source(
    source: str, data_dir: str | None, split: str, class_names: tuple[str, ...] | None = None
) -> FolderSource | TfdsSource:
    """Opens one split of a source.

    Args:
        source: ``digits``, ``folder:PATH``, or the name of a TFDS set, such as
            ``imagenet2012``, ``oxford_flowers102:2.1.1`` or ``NAME/CONFIG:VERSION``.
        data_dir: Folder of TFDS's data sets; None is TFDS's default, ``~/tensorflow_datasets``.
        split: A split of a TFDS set, or the name of a sub-folder; or a slice of it, such as
            ``train[:99%]``. If there is no sub-folder ``val``, ``validation`` or ``test``, one of
            the other two is used.
        class_names: The classes; a label is a position in them. None takes the source's own
            classes. Class folders may lack some classes; a TFDS set must have exactly these.

    Raises:
        DataError: If the source or split does not exist, a class is unknown, or the set is not
            prepared.
    """
    if source.startswith("folder:"):
        return open_folder(source.removeprefix("folder:"), split, class_names)
    if source == "digits":
        builder = prepared_digits(data_dir)
    else:
        builder = tfds_builder(source, data_dir)
    opened = _open_tfds(builder, source, split)
    if class_names not in (None, opened.class_names):
        raise DataError(
            f"data {source!r} has the classes {some(opened.class_names)}, but the model has"
            f" other classes: {some(class_names)}"
        )
    return opened


def open_folder(path: str, split: str, class_names: tuple[str, ...] | None = None) -> FolderSource:
    """Opens a split's sub-folder, or a slice of it; for the arguments see `open_source`.

    If `class_names` is None, the class folders must be the same as in ``train``, if that exists.
    """
    root = split_folder(Path(path).expanduser(), split.partition("[")[0])
    folders = _class_folders(root)
    train = root.parent / "train"
    if class_names is not None:
        if unknown := sorted(set(folders) - set(class_names)):
            raise DataError(
                f"{root}: class folder {some(unknown)} is none of the model's classes;"
                f" these are {some(class_names)}"
            )
    elif train != root and train.is_dir():
        expected = _class_folders(train)
        if folders != expected:
            extra, missing = set(folders) - set(expected), set(expected) - set(folders)
            raise DataError(
                f"{root}: its class folders differ from those of {train}:"
                f" missing {sorted(missing) or 'none'}, unknown {sorted(extra) or 'none'}"
            )
    class_names = class_names or folders
    paths, labels = [], []
    for name in folders:
        images = sorted(_images(os.path.join(root, name), name))
        if not images:
            raise DataError(
                f"{root / name}: class folder without images ({' '.join(IMAGE_SUFFIXES)})"
            )
        paths += images
        labels += [class_names.index(name)] * len(images)
    if "[" in split:
        chosen = slice_of(split, root, paths)
        paths, labels = [paths[i] for i in chosen], [labels[i] for i in chosen]
    return FolderSource(str(root), paths, np.asarray(labels, np.int32), class_names)


def _class_folders(root: Path) -> tuple[str, ...]:
    names = [entry.name for entry in entries(root) if entry.is_dir()]
    if not names:
        raise DataError(f"{root}: no class folders; images belong in {root}/CLASS/")
    return tuple(names)


def _images(folder: str, prefix: str) -> Iterator[str]:
    """Relative paths of the images below a folder; makes no system call for each image."""
    for entry in entries(folder):
        path = f"{prefix}/{entry.name}"
        if entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield path
        elif entry.is_dir():
            yield from _images(entry.path, path)


def _open_tfds(builder: Any, source: str, split: str) -> TfdsSource:
    features = features_of(builder, source)
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise DataError(
            f"data {source!r} is not for classification: it has no image and label among its"
            f" features {', '.join(features)}"
        )
    records = records_of(builder, source, split)
    return TfdsSource(records, f"{builder.info.full_name} {split}", tuple(label.names))
