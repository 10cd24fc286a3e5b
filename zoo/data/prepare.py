"""Prepares a TFDS set for training, in the array_record format and without TensorFlow.

    python -m zoo.data.prepare imagenet2012 --data_dir=DIR --manual_dir=ARCHIVES
    python -m zoo.data.prepare oxford_flowers102

The only command of this package that may use the network. The archives of a set that cannot be
downloaded (``imagenet2012``: ``ILSVRC2012_img_train.tar`` and ``ILSVRC2012_img_val.tar``) are read
from ``--manual_dir``. While it prepares a set, TFDS calls TensorFlow in a few places: to look for
files, and to decode and encode images. This command replaces these calls by Python's own files and
Pillow; a set that needs more of TensorFlow (``coco``) fails with an error that says so.
"""

import argparse
import importlib
import io
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Shaped, UInt8
from PIL import Image

from zoo.data.decode import to_rgb
from zoo.data.errors import DataError
from zoo.data.formats.tfds import prepared_digits, tfds_builder


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 if the data cannot be prepared."""
    parser = argparse.ArgumentParser(prog="python -m zoo.data.prepare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", help="a TFDS set: NAME, NAME/CONFIG or NAME:VERSION")
    parser.add_argument("--data_dir", help="folder to write to; default ~/tensorflow_datasets")
    parser.add_argument("--manual_dir", help="folder of the archives that you downloaded yourself")
    options = parser.parse_args(arguments)
    try:
        path = prepare(options.name, options.data_dir, options.manual_dir)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.name} is ready in {path}")
    return 0


def prepare(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> Path:
    """Downloads and prepares a set, unless it is already prepared; returns its folder.

    Raises:
        DataError: If the set is unknown, cannot be downloaded, or lacks its archives; or if the
            installed version of TFDS lacks a private part that this module replaces.
    """
    if name == "digits":
        return Path(prepared_digits(data_dir).data_path)
    builder = tfds_builder(name, data_dir)
    _stand_in_for_tensorflow()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except Exception as error:  # a set's code and the network raise many kinds of errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data {name!r} cannot be prepared: {reason}") from error
    return Path(builder.data_path)


# TFDS has no public way to prepare these sets without TensorFlow, so this module replaces private
# parts of this version of TFDS. `_find_private` raises an error if another version lacks one.
_TFDS = "4.9.10"


def _stand_in_for_tensorflow() -> None:
    """Replaces the few calls of TensorFlow in the code of the data sets and in TFDS itself."""
    files = types.SimpleNamespace(
        GFile=open, exists=os.path.exists, isdir=os.path.isdir, listdir=os.listdir
    )
    tensorflow = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=files, encode_jpeg=_encode_jpeg),
        image=types.SimpleNamespace(decode_image=_decode_rgb),
        shape=np.shape,
    )
    replacements = {
        ("download.extractor", "tf"): tensorflow,
        ("features.image_feature", "_ImageEncoder._encode_image"): _encode_array,
        ("utils.image_utils", "jpeg_cmyk_to_rgb"): _to_rgb_jpeg,
        ("utils.image_utils", "png_to_jpeg"): _to_rgb_jpeg,
        ("utils", "jpeg_cmyk_to_rgb"): _to_rgb_jpeg,
        ("utils", "png_to_jpeg"): _to_rgb_jpeg,
    }
    found = [(*_find_private(*place), new) for place, new in replacements.items()]
    for owner, name, new in found:
        setattr(owner, name, new)
    for name, module in list(sys.modules.items()):
        of_a_set = name.startswith("tensorflow_datasets.") and ".core." not in name
        if of_a_set and "tf" in vars(module):
            vars(module)["tf"] = tensorflow


def _find_private(module: str, path: str) -> tuple[Any, str]:
    """The object in TFDS that has a private attribute, and the attribute's name.

    Raises:
        DataError: If this version of TFDS has no such attribute.
    """
    *owners, name = path.split(".")
    try:
        owner: Any = importlib.import_module(f"tensorflow_datasets.core.{module}")
        for part in owners:
            owner = getattr(owner, part)
        getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"tensorflow-datasets {tfds.__version__} has no {module}.{path}, which this command"
            f" replaces; install tensorflow-datasets=={_TFDS}"
        ) from error
    return owner, name


def _decode_rgb(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    return to_rgb(Image.open(io.BytesIO(data)), "an image of the set", upright=False)


def _encode_jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> Any:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)  # TensorFlow's default
    return types.SimpleNamespace(numpy=file.getvalue)


def _encode_array(encoder: Any, pixels: Shaped[np.ndarray, "h w c"]) -> bytes:
    if pixels.dtype != np.uint8:
        raise DataError(f"images of {pixels.dtype} cannot be encoded without TensorFlow")
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    file = io.BytesIO()
    picture.save(file, encoder.encoding_format)
    return file.getvalue()


def _to_rgb_jpeg(data: bytes, quality: int = 100) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_decode_rgb(data)).save(file, "JPEG", quality=quality)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
