"""Opens TFDS's data sets without TensorFlow: builders, and records with images still encoded.

Nothing here uses the network; only ``python -m zoo.data.prepare`` does.
"""

import contextlib
import difflib
import importlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging as absl_logging

from zoo.data.digits import Digits
from zoo.data.errors import DataError
from zoo.data.formats.own_data import own_data_hint


def prepared_digits(data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The embedded digits, written to ``DATA_DIR/digits`` the first time (a second, offline).

    TFDS writes to a folder of another name and then renames it. So if several processes do this at
    the same time, each of them has a complete set afterwards.
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
    """TFDS's builder of the set with a name; the set need not be prepared.

    `others` are the sources that errors suggest besides TFDS's sets. If a file or folder has the
    name, the error says how it is given instead.
    """
    try:
        return _builder(source, data_dir, others)
    except DataError as error:
        if (hint := own_data_hint(source, others)) is None:
            raise
        raise DataError(f"unknown data {source!r}; {hint}") from error


def _builder(
    source: str, data_dir: str | None, others: tuple[str, ...]
) -> tfds.core.DatasetBuilder:
    # "namespace:name" would use the network: only a version may follow the colon, and it begins
    # with a digit.
    if not re.fullmatch(r"\w+(/[\w.+-]+)?(:[\d*][\d.*]*)?", source):
        raise DataError(
            f"unknown data {source!r}; use {', '.join(others)}, or a TFDS set as NAME,"
            " NAME/CONFIG or NAME:VERSION"
        )
    importlib.import_module("tensorflow_datasets.translate")  # tfds.builder does not import these
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
        reason = " ".join(str(error).split()).rpartition('}": ')[2]  # without TFDS's text before it
        raise DataError(f"data {source!r} cannot be opened: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides TFDS's progress bars, and its warnings about sets that are not prepared yet."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    unseen = io.StringIO()
    try:
        with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
            yield
    finally:
        absl_logging.set_verbosity(verbosity)


def features_of(builder: Any, source: str) -> dict[str, Any]:
    """The features of a set, which must be prepared."""
    with _quiet():
        prepared = builder.is_prepared()
    if not prepared:
        hint = own_data_hint(source)
        raise DataError(
            f"data {source!r} is not prepared in {builder.data_path}; run:"
            f" python -m zoo.data.prepare {source} --data_dir={builder.data_dir_root}"
            + (f"; or, {hint}" if hint else "")
        )
    return dict(builder.info.features.items())


def records_of(
    builder: Any, source: str, split: str, images: Sequence[str] = ("image",)
) -> Sequence[Any]:
    """The records of a split of a prepared set; the features in `images` are still encoded."""
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


def read_record(records: Sequence[Any], index: int, name: str) -> dict[str, Any]:
    """A record of a TFDS set, or a `DataError` that calls it `name`."""
    try:
        return records[index]
    except Exception as error:  # array_record and protobuf raise errors of their own
        raise DataError(f"{name}: the record cannot be read: {error}") from error
