"""What may change when a run goes on: more steps, and another place of the same data."""

import json
import shutil

import numpy as np
import pytest

import zoo
from tests import samples
from tests.train.conftest import TINY
from train.__main__ import main
from train.config import ConfigError
from train.data_checksum import data_checksum
from train.log import read_metrics
from train.recipes import RECIPES
from zoo.data import (
    ClassificationData,
    DetectionData,
    SegmentationData,
    TranslationData,
    open_classification,
    open_detection,
    open_segmentation,
    open_translation,
)

FEW = ("--log_every=5", "--eval_every=20", "--checkpoint_every=10")


def test_a_finished_run_is_extended(run):
    workdir, *_ = run(*FEW, "--steps=10")
    before = (workdir / "metrics.jsonl").read_text()
    _, result, output = run(*FEW, "--steps=20")
    assert result.step == 20
    assert "note: " in output and "is extended from 10 to 20 steps" in output
    assert (workdir / "metrics.jsonl").read_text().startswith(before)
    assert [entry["step"] for entry in read_metrics(workdir / "metrics.jsonl")] == [5, 10, 15, 20]
    assert json.loads((workdir / "config.json").read_text())["steps"] == 20
    assert "note" not in run(*FEW, "--steps=20")[2]
    with pytest.raises(ConfigError, match=r"holds a run with steps=20, not 10"):
        run(*FEW, "--steps=10")


@pytest.mark.slow
def test_an_extension_at_a_constant_rate_is_the_longer_run(run):
    constant = (*FEW, "--optim.schedule=constant", "--ema=0.9")
    first, *_ = run(*constant, "--steps=10", workdir="a")
    run(*constant, "--steps=20", workdir="a")
    second, *_ = run(*constant, "--steps=20", workdir="b")
    left, right = (read_metrics(path / "metrics.jsonl") for path in (first, second))
    assert left[2:] == right[2:] and left[0] == right[0]
    weights = [
        zoo.load(path / "checkpoints" / "20")[1]["params"]["head"] for path in (first, second)
    ]
    np.testing.assert_array_equal(weights[0]["kernel"], weights[1]["kernel"])


def test_a_run_that_is_not_finished_is_not_extended(run):
    workdir, *_ = run(*FEW, "--steps=20")
    shutil.rmtree(workdir / "checkpoints" / "20")
    with pytest.raises(
        ConfigError, match=r"steps=20, of which 10 are done, not 30: only a finished"
    ):
        run(*FEW, "--steps=30")


def test_a_refusal_says_how_to_start_from_the_run(run, tmp_path, capsys):
    workdir, *_ = run(*FEW, "--steps=5")
    with pytest.raises(
        ConfigError, match=rf"seed=0, not 3: .* another --workdir and --init={workdir}$"
    ):
        run(*FEW, "--steps=5", "--seed=3")
    arguments = ("vit_digits", *TINY, *FEW, "--steps=5", "--seed=3", f"--init={workdir}")
    assert main([*arguments, f"--workdir={tmp_path / 'new'}"]) == 0


@pytest.fixture
def photos(run, tmp_path):
    """Trains on photos at a place; gives the folder of the run, and its output."""
    samples.FILES["photos"](tmp_path / "photos")

    def go(place, *fields):
        data = (f"--data.source=folder:{tmp_path / place}", "--data.eval_split=val")
        return run(*FEW, "--steps=5", "--batch_size=4", *data, *fields)

    return go


def test_a_folder_of_data_may_move(photos, tmp_path):
    workdir, *_ = photos("photos")
    (tmp_path / "photos").rename(tmp_path / "moved")
    _, result, output = photos("moved", "--steps=10")
    assert result.step == 10
    assert f"note: the data were folder:{tmp_path / 'photos'}, now they are folder:" in output
    assert "the same content in up to 64 examples of each split" in output.replace("\n", " ")
    assert json.loads((workdir / "config.json").read_text())["data"]["source"].endswith("moved")


def add_an_image(folder):
    samples.photo(folder / "train" / "cat" / "new.jpg")


def rename_a_class(folder):
    for split in ("train", "val"):
        (folder / split / "dog").rename(folder / split / "emu")


def change_an_image(folder):
    path = folder / "val" / "cat" / "cat1.jpg"
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("change", [add_an_image, rename_a_class, change_an_image])
def test_other_data_are_refused(change, photos, tmp_path):
    photos("photos")
    shutil.copytree(tmp_path / "photos", tmp_path / "other")
    change(tmp_path / "other")
    split = "eval" if change is change_an_image else "train"
    with pytest.raises(ConfigError, match=rf"and the data for {split} are not the same .*--init="):
        photos("other")


def test_a_run_without_checksums_is_resumed_once_at_the_old_place(photos, tmp_path):
    workdir, *_ = photos("photos")
    shutil.copytree(tmp_path / "photos", tmp_path / "moved")
    config = json.loads((workdir / "config.json").read_text())
    del config["data_checksums"]
    (workdir / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"has no checksums of the data, .*resume it once with"):
        photos("moved")
    photos("photos")
    assert "now they are" in photos("moved")[2]


OPENERS = {
    "photos": (open_classification, ClassificationData, "folder", {"eval_split": "val"}),
    "boxes": (open_detection, DetectionData, "coco", {"eval_split": "val"}),
    "voc": (open_detection, DetectionData, "voc", {"eval_split": "val"}),
    "scans": (open_segmentation, SegmentationData, "folder", {"eval_split": "val"}),
    "pairs.tsv": (open_translation, TranslationData, "pairs", {"vocab_size": 300}),
}


@pytest.mark.parametrize("name", OPENERS)
def test_the_checksum_does_not_depend_on_the_place(name, tmp_path):
    open_data, data, kind, fields = OPENERS[name]
    samples.FILES[name](tmp_path / name)
    copy = shutil.copytree if (tmp_path / name).is_dir() else shutil.copy
    copy(tmp_path / name, tmp_path / f"moved_{name}")
    sums = [
        data_checksum(open_data(data(source=f"{kind}:{tmp_path / place}", **fields), "train"))
        for place in (name, f"moved_{name}")
    ]
    assert sums[0] == sums[1]


def test_the_checksum_of_embedded_data():
    for recipe in ("vit_digits", "detr_digit_scenes", "unet_digit_scenes"):
        config = RECIPES[recipe]()
        first, again, other = (
            data_checksum(config.task.open(config.data, split))
            for split in ("train", "train", "eval")
        )
        assert first == again != other
