import hashlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from zoo.data import DataError
from zoo.data.class_sources import open_source
from zoo.data.decode import decode_image


def test_digits_are_scikit_learns(data_dir):
    scans = load_digits()
    wanted = {
        (image.round().astype(int).tobytes(), int(label))
        for image, label in zip(scans.images, scans.target, strict=True)
    }
    found = set()
    for split, count in (("train", 1257), ("test", 540)):
        source = open_source("digits", data_dir, split)
        assert len(source) == count
        assert source.class_names == tuple("0123456789")
        for i in range(count):
            example = source[i]
            pixels = decode_image(example["image"], example["name"])
            assert pixels.shape == (8, 8, 3)
            levels = np.rint(pixels[..., 0] * (16 / 255)).astype(int)
            found.add((levels.tobytes(), example["label"]))
    assert found == wanted


def test_the_test_digits_are_fixed(data_dir):
    source = open_source("digits", data_dir, "test")
    labels = bytes(source[i]["label"] for i in range(len(source)))
    assert hashlib.sha256(labels).hexdigest()[:16] == "5daaa22c02231b2a"


def test_processes_prepare_the_digits_at_once(tmp_path):
    code = "import sys; from zoo.data.class_sources import open_source as o;"
    code += "print(len(o('digits', sys.argv[1], 'train')))"
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [run.communicate()[0] for run in runs] == [b"1257\n"] * 2
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_slices_and_names(data_dir):
    source = open_source("digits:1.0.0", data_dir, "train[90%:]")
    assert len(source) == 126
    assert source[3]["name"] == "digits/1.0.0 train[90%:][3]"


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("imagnet2012", "train", "unknown data 'imagnet2012'; near names: imagenet2012"),
        ("some:thing", "train", "unknown data 'some:thing'; use digits, folder:PATH"),
        ("imagenet2012:9.9.9", "train", "cannot be loaded at version 9.9.9, only: 5.1.0"),
        ("imagenet2012", "train", r"is not prepared in .*; run: python -m zoo.data.prepare imagen"),
        ("digits", "valid", "no split 'valid'; there are train, test, and slices such as"),
        ("digits", "train[:x", r"no split 'train\[:x'"),
        ("folder:/does/not/exist", "train", "/does/not/exist: no such folder"),
    ],
)
def test_errors_say_what_is_allowed(source, split, message, data_dir):
    with pytest.raises(DataError, match=message) as caught:
        open_source(source, data_dir, split)
    assert "\n" not in str(caught.value)


def test_unwritable_data_dir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*--data.data_dir"):
        open_source("digits", str(tmp_path / "file"), "train")


def test_folder_lists_sorted_classes_and_images(folder):
    (folder / "train" / "cat" / "deeper").mkdir()
    (folder / "train" / "cat" / "deeper" / "z.PNG").write_bytes(b"png")
    (folder / "train" / "cat" / "notes.txt").write_text("not an image")
    source = open_source(f"folder:{folder}", None, "train")
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    names = [source[i]["name"].removeprefix(f"{folder}/train/") for i in range(len(source))]
    assert names[:5] == ["cat/0.jpg", "cat/1.jpg", "cat/2.jpg", "cat/deeper/z.PNG", "dog/0.jpg"]
    assert source[3]["image"] == b"png"


@pytest.mark.parametrize("split", ["test", "val", "validation"])
def test_folder_names_of_evaluation_stand_in_for_each_other(folder, split):
    assert len(open_source(f"folder:{folder}", None, split)) == 4


def test_folder_without_class_folders(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"train: no class folders; images belong in"):
        open_source(f"folder:{tmp_path}", None, "train")


def test_class_folder_without_images_is_named(folder):
    (folder / "train" / "emu").mkdir()
    with pytest.raises(DataError, match="train/emu: class folder without images"):
        open_source(f"folder:{folder}", None, "train")


def test_classes_of_evaluation_must_be_those_of_training(folder):
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(DataError, match=r"missing \['dog'\], unknown \['wolf'\]"):
        open_source(f"folder:{folder}", None, "val")


def test_a_missing_class_folder_is_fine_for_the_classes_of_a_run(folder):
    for image in (folder / "val" / "cat").iterdir():
        image.unlink()
    (folder / "val" / "cat").rmdir()
    source = open_source(f"folder:{folder}", None, "val", ("cat", "dog"))
    assert (source.labels.tolist(), source.class_names) == ([1, 1], ("cat", "dog"))


def test_unknown_class_folders_are_named_with_a_few_of_those_that_there_are(folder):
    names = ("cat", *(f"breed{i}" for i in range(11)))
    with pytest.raises(
        DataError, match=r"folder dog is none.*cat, .*breed8, \.\.\. \(12 in all\)$"
    ):
        open_source(f"folder:{folder}", None, "val", names)


def test_slices_of_a_folder_part_it_and_hold_every_class(folder):
    for i in range(40):
        for name in ("cat", "dog"):
            (folder / "train" / name / f"more{i}.png").write_bytes(b"png")
    paths = open_source(f"folder:{folder}", None, "train").paths
    parts = [
        open_source(f"folder:{folder}", None, split)
        for split in ("train[:50%]", "train[43:77]", "train[90%:]")
    ]
    assert [len(part) for part in parts] == [43, 34, 9]
    assert sorted(path for part in parts for path in part.paths) == sorted(paths)
    for part in parts:
        assert part.paths == sorted(part.paths)
        assert set(part.labels.tolist()) == {0, 1}
        assert [path.startswith("dog") for path in part.paths] == part.labels.tolist()
    assert open_source(f"folder:{folder}", None, "val[:1]").class_names == ("cat", "dog")


@pytest.mark.parametrize("split", ["train[:x]", "train[:7]", "train[:3"])
def test_impossible_slices_of_a_folder(split, folder):
    with pytest.raises(DataError, match=r"no slice .* of its 6 images; .*train\[:90%\]"):
        open_source(f"folder:{folder}", None, split)


def test_no_such_sub_folder(folder):
    with pytest.raises(DataError, match=r"no sub-folder dev .*there are: train, val"):
        open_source(f"folder:{folder}", None, "dev")


def test_an_image_that_has_gone_is_named(folder):
    source = open_source(f"folder:{folder}", None, "train")
    (folder / "train" / "cat" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"cat/0.jpg: cannot be read: No such file"):
        source[0]
