import io

import numpy as np
import pytest
from PIL import Image

from zoo.data import ClassificationData
from zoo.data.sources import prepared_digits


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """TFDS's folder of this session, with the digits in it."""
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
