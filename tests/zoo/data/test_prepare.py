import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from zoo.data.class_sources import open_source
from zoo.data.decode import decode_image
from zoo.data.prepare import main


def add(archive, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def test_imagenet_is_prepared_from_its_archives(tmp_path, photo, encode):
    """Prepared in a new process, with a replacement for TensorFlow; then read in this process."""
    jpeg = encode(photo, "JPEG")
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as train:
        for wordnet_id, count in (("n01440764", 1), ("n01443537", 2)):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for i in range(count):
                    add(images, f"{wordnet_id}_{i}.JPEG", jpeg)
            add(train, f"{wordnet_id}.tar", inner.getvalue())
    with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "w") as val:
        add(val, "ILSVRC2012_val_00000001.JPEG", jpeg)
    command = [sys.executable, "-m", "zoo.data.prepare", "imagenet2012"]
    command += [f"--data_dir={tmp_path / 'data'}", f"--manual_dir={tmp_path}"]
    subprocess.run(command, check=True, capture_output=True)

    source = open_source("imagenet2012", str(tmp_path / "data"), "train")
    assert len(source.class_names) == 1000
    assert sorted(source[i]["label"] for i in range(len(source))) == [0, 1, 1]
    pixels = decode_image(source[0]["image"], source[0]["name"])
    np.testing.assert_array_equal(pixels, decode_image(jpeg, ""))
    assert len(open_source("imagenet2012:5.*.*", str(tmp_path / "data"), "validation")) == 1


def test_digits(tmp_path, capsys):
    assert main(["digits", f"--data_dir={tmp_path}"]) == 0
    assert capsys.readouterr().out == f"digits is ready in {tmp_path}/digits/1.0.0\n"


@pytest.mark.parametrize("name", ["oxford_flower102", "a:b"])
def test_unknown(name, tmp_path, capsys):
    assert main([name, f"--data_dir={tmp_path}"]) == 2
    assert f"error: unknown data {name!r}" in capsys.readouterr().err


def test_a_tfds_with_other_private_parts_is_one_line(tmp_path, capsys, monkeypatch):
    from tensorflow_datasets.core.features import image_feature

    monkeypatch.delattr(image_feature._ImageEncoder, "_encode_image")
    assert main(["oxford_flowers102", f"--data_dir={tmp_path}"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "has no features.image_feature._ImageEncoder._encode_image, which" in errors[0]
