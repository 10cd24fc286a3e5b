import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.zoo.data.coco_folder import SIZES, annotations
from zoo.data import ClassificationData, DetectionData
from zoo.data.formats.tfds import prepared_digits


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The folder of TFDS for this session, with the digits prepared."""
    path = str(tmp_path_factory.mktemp("tfds"))
    prepared_digits(path)
    return path


@pytest.fixture
def digits(data_dir):
    return ClassificationData(data_dir=data_dir, threads=2)


@pytest.fixture(scope="session")
def photo():
    """A smooth picture of 47 x 61 px."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((61, 47), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def encode():
    def encode(image, kind, **options):
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def folder(tmp_path, photo, encode):
    """Two classes of three training and two validation images of different sizes."""
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            place = tmp_path / split / name
            place.mkdir(parents=True)
            for i in range(count):
                image = photo.rotate(90 * label).resize((40 + 3 * i, 50 - 2 * i))
                (place / f"{i}.jpg").write_bytes(encode(image, "JPEG"))
    return tmp_path


@pytest.fixture
def coco(tmp_path):
    """COCO's folders with the same files for training and evaluation; the images are noise."""
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        path = tmp_path / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(annotations()))
        (tmp_path / split).mkdir()
        for image, size in SIZES.items():
            pixels = np.random.default_rng(image).integers(1, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{image}.png")
    return tmp_path


@pytest.fixture
def config(coco):
    """Data settings for the folder of `coco`; images keep their size."""
    return DetectionData(
        source=f"coco:{coco}",
        train_split="train2017",
        eval_split="val2017",
        buckets=((60, 96), (96, 60), (64, 64)),
        threads=2,
    )
