"""Prepares a TFDS set for training, in the array_record format and without TensorFlow.

    python -m zoo.data.prepare imagenet2012 --data_dir=DIR --manual_dir=ARCHIVES
    python -m zoo.data.prepare oxford_flowers102

The one command of this package that may use the network. Sets that cannot be downloaded
(``imagenet2012``: ``ILSVRC2012_img_train.tar`` and ``ILSVRC2012_img_val.tar``) are read from
``--manual_dir``. TFDS calls TensorFlow in few places here: to look for files, and to decode and
encode images. For the time of this command Python's own files and Pillow stand in; a set that needs
more of TensorFlow (``coco``) says so.
"""

import argparse
import io
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import utils as core_utils
from tensorflow_datasets.core.download import extractor
from tensorflow_datasets.core.features import image_feature
from tensorflow_datasets.core.utils import image_utils

from zoo.data.errors import DataError
from zoo.data.sources import prepared_digits, tfds_builder


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 where the data cannot be prepared."""
    parser = argparse.ArgumentParser(prog="python -m zoo.data.prepare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", help="a TFDS set: NAME, NAME/CONFIG or NAME:VERSION")
    parser.add_argument("--data_dir", help="where to; default ~/tensorflow_datasets")
    parser.add_argument("--manual_dir", help="where archives lie that one has to download oneself")
    options = parser.parse_args(arguments)
    try:
        path = prepare(options.name, options.data_dir, options.manual_dir)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.name} is ready in {path}")
    return 0


def prepare(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> Path:
    """Downloads and prepares a set, unless it is there already; returns its folder.

    Raises:
        DataError: If the set is unknown, cannot be downloaded, or lacks its archives.
    """
    if name == "digits":
        return Path(prepared_digits(data_dir).data_path)
    builder = tfds_builder(name, data_dir)
    _stand_in_for_tensorflow()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except Exception as error:  # whatever the set's own code and the network raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data {name!r} cannot be prepared: {reason}") from error
    return Path(builder.data_path)


def _stand_in_for_tensorflow() -> None:
    """Gives the code of the data sets, and TFDS's encoders, what little of TensorFlow they call."""
    files = types.SimpleNamespace(
        GFile=open, exists=os.path.exists, isdir=os.path.isdir, listdir=os.listdir
    )
    tensorflow = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=files, encode_jpeg=_encode_jpeg),
        image=types.SimpleNamespace(decode_image=_decode_rgb),
        shape=np.shape,
    )
    for name, module in list(sys.modules.items()):
        of_a_set = name.startswith("tensorflow_datasets.") and ".core." not in name
        if (of_a_set or module is extractor) and "tf" in vars(module):
            vars(module)["tf"] = tensorflow

    encoder: Any = image_feature._ImageEncoder
    encoder._encode_image = _encode_array
    for utils in (image_utils, core_utils):
        vars(utils).update(jpeg_cmyk_to_rgb=_to_rgb_jpeg, png_to_jpeg=_to_rgb_jpeg)


def _decode_rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _encode_jpeg(pixels: np.ndarray) -> Any:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)  # TensorFlow's default
    return types.SimpleNamespace(numpy=file.getvalue)


def _encode_array(encoder: Any, pixels: np.ndarray) -> bytes:
    if pixels.dtype != np.uint8:
        raise DataError(f"images of {pixels.dtype} cannot be encoded without TensorFlow")
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    file = io.BytesIO()
    picture.save(file, encoder.encoding_format)
    return file.getvalue()


def _to_rgb_jpeg(data: bytes, quality: int = 100) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
