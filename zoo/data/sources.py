"""Sources of labelled images: the embedded digits, class folders, any TFDS classification set.

Each is random access to ``{"image": encoded bytes, "label": int, "name": str}``; the name is what
errors call the image. Nothing here touches the network: ``python -m zoo.data.prepare`` does.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib
import io
import os
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging

from zoo.data.digits import Digits
from zoo.data.errors import DataError, some

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_EVAL_FOLDERS = ("val", "validation", "test")


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
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        return {"image": data, "label": int(self.labels[index]), "name": path}


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """The images of one split of a TFDS set, undecoded."""

    records: Sequence[Any]
    name: str
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self.name}[{index}]"
        record = read_record(self.records, index, name)
        return {"image": record["image"], "label": int(record["label"]), "name": name}


def read_record(records: Sequence[Any], index: int, name: str) -> dict[str, Any]:
    """A record of a TFDS set, or a `DataError` that calls it `name`."""
    try:
        return records[index]
    except Exception as error:  # array_record and protobuf raise errors of their own
        raise DataError(f"{name}: the record cannot be read: {error}") from error


def open_source(
    source: str, data_dir: str | None, split: str, class_names: tuple[str, ...] | None = None
) -> FolderSource | TfdsSource:
    """Opens one split of a source.

    Args:
        source: ``digits``, ``folder:PATH``, or the name of a TFDS set, such as
            ``imagenet2012``, ``oxford_flowers102:2.1.1`` or ``NAME/CONFIG:VERSION``.
        data_dir: Where TFDS keeps its sets; None is its own default, ``~/tensorflow_datasets``.
        split: TFDS's split, slices included, ``train[:99%]``; for a folder the name of a
            sub-folder, where ``val``, ``validation`` and ``test`` stand in for each other.
        class_names: What labels are positions in; None is the source's own classes. Class folders
            may lack some of these; a TFDS set has to have the same.

    Raises:
        DataError: If there is no such source, split or class, or the set is not prepared.
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
            f"data {source!r} has the classes {some(opened.class_names)}, but the model those of"
            f" other data: {some(class_names)}"
        )
    return opened


def open_folder(path: str, split: str, class_names: tuple[str, ...] | None = None) -> FolderSource:
    """Opens a split's sub-folder, or a slice of it; for the arguments see `open_source`.

    Without `class_names` the class folders must be those of ``train``, if there is one.
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


def slice_of(split: str, root: str | Path, paths: list[str]) -> list[int]:
    """Ascending places of the images of ``NAME[FROM:TO]``, in examples or percent.

    The slice is of the order of the paths' hashes, so that it holds images of every class.
    """
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


def split_folder(path: Path, split: str) -> Path:
    """A split's sub-folder, or one that stands in for it."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    names = [split, *(name for name in _EVAL_FOLDERS if split in _EVAL_FOLDERS and name != split)]
    for name in names:
        if (path / name).is_dir():
            return path / name
    there = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    raise DataError(
        f"{path}: no sub-folder {' or '.join(names)} for the split {split!r};"
        f" there are: {', '.join(there[:10]) or 'none'}"
    )


def _class_folders(root: Path) -> tuple[str, ...]:
    names = sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise DataError(f"{root}: no class folders; images belong into {root}/CLASS/")
    return tuple(names)


def _images(folder: str, prefix: str) -> Iterator[str]:
    """Relative paths of the images below a folder, without a system call for each."""
    for entry in os.scandir(folder):
        path = f"{prefix}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield path
        elif entry.is_dir():
            yield from _images(entry.path, path)


def prepared_digits(data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The embedded digits, written to ``DATA_DIR/digits`` the first time (a second, offline).

    TFDS writes to a folder of another name and renames it, so when several processes do this at
    once each ends with a whole set.
    """
    try:
        with _quiet(), contextlib.suppress(FileExistsError):  # another process was first
            Digits(data_dir=data_dir, file_format="array_record").download_and_prepare()
    except OSError as error:
        raise DataError(
            f"digits: cannot be written to {data_dir or 'the home directory'}:"
            f" {error.strerror}; choose another folder with --data.data_dir"
        ) from error
    return Digits(data_dir=data_dir, file_format="array_record")


def tfds_builder(
    source: str, data_dir: str | None, others: tuple[str, ...] = ("digits", "folder:PATH")
) -> tfds.core.DatasetBuilder:
    """TFDS's builder of a set by name; it may not be prepared.

    `others` are what errors name beside TFDS's sets.
    """
    # "namespace:name" would ask the network; a version begins with a digit.
    if not re.fullmatch(r"\w+(/[\w.+-]+)?(:[\d*][\d.*]*)?", source):
        raise DataError(
            f"unknown data {source!r}; use {', '.join(others)}, or a TFDS set as NAME,"
            " NAME/CONFIG or NAME:VERSION"
        )
    importlib.import_module("tensorflow_datasets.translate")  # tfds.builder does not find these
    try:
        with _quiet():
            return tfds.builder(source, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(re.split("[:/]", source)[0], [*others, *names])
        raise DataError(
            f"unknown data {source!r}; near names: {', '.join(near) or 'none'};"
            f" or use {', '.join(others)}"
        ) from error
    except Exception as error:  # an unknown version or config, or a set that needs TensorFlow
        reason = " ".join(str(error).split()).rpartition('}": ')[2]  # without TFDS's preamble
        raise DataError(f"data {source!r} cannot be opened: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's progress bars, and its warning of every set that is not prepared yet."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    unseen = io.StringIO()
    try:
        with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
            yield
    finally:
        absl_logging.set_verbosity(verbosity)


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


def features_of(builder: Any, source: str) -> dict[str, Any]:
    """The features of a set, which must be prepared."""
    with _quiet():
        prepared = builder.is_prepared()
    if not prepared:
        raise DataError(
            f"data {source!r} is not prepared in {builder.data_path}; run:"
            f" python -m zoo.data.prepare {source} --data_dir={builder.data_dir_root}"
        )
    return dict(builder.info.features.items())


def records_of(
    builder: Any, source: str, split: str, images: Sequence[str] = ("image",)
) -> Sequence[Any]:
    """The records of a split of a prepared set, the features that are images still encoded."""
    undecoded = {name: tfds.decode.SkipDecoding() for name in images}
    try:
        return builder.as_data_source(split=split, decoders=undecoded)
    except NotImplementedError as error:
        raise DataError(
            f"data {source!r} in {builder.data_path} is not in the array_record format; run:"
            f" python -m zoo.data.prepare {source} --data_dir=ANOTHER_FOLDER"
        ) from error
    except (ValueError, KeyError) as error:
        raise DataError(
            f"data {source!r} has no split {split!r}; there are"
            f" {', '.join(builder.info.splits)}, and slices such as train[:90%]"
        ) from error
