"""Mistakes of a new user end in one clear line, and input that only looks wrong works."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval.classification
import eval.detection
import eval.segmentation
import train.__main__
import train.doctor
import zoo
import zoo.__main__
from tests import samples
from train.parallel import Parallel
from zoo.data import ClassificationData, open_classification, train_batches

VIT = (
    *("vit_digits", "--model.num_layers=1", "--data.threads=2", "--batch_size=4"),
    *("--data.train_split=train", "--data.eval_split=val"),
)
DETR = (
    *("detr_finetune", "--model.name=detr_nano", "--data.buckets=[[64,64]]", "--batch_size=2"),
    *("--data.short_sides=[]", "--data.random_crop=false", "--data.threads=2"),
)
UNET = ("unet_folder", "--data.image_size=32,32", "--data.threads=2", "--batch_size=2")
PHOTOS, BOXES, SCANS = (
    "--data.source=folder:photos",
    "--data.source=coco:boxes",
    "--data.source=folder:scans",
)
SCORE = ("--annotations=instances.json", "--predictions=results.json")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with data of each kind."""
    for name in ("photos", "boxes", "scans", "instances.json", "results.json"):
        samples.FILES[name](tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewrite(path: str, change) -> None:
    """Changes a json file."""
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def shift_ids(file: dict) -> None:
    for annotation in file["annotations"]:
        annotation["category_id"] += 1


def corners(file: dict) -> None:
    for annotation in file["annotations"]:
        left, top, width, height = annotation["bbox"]
        annotation["bbox"] = [left + width, top + height, left, top]
        annotation["bbox"][2] = -1


def unknown_image(results: list) -> None:
    results[0]["image_id"] = 12345


def colour_mask() -> None:
    Image.new("RGB", (80, 60)).save("scans/train/masks/0.png")


def label_beyond_the_classes() -> None:
    for path in Path("scans/train/masks").iterdir():
        Image.fromarray(np.full((60, 80), 9, np.uint8)).save(path)


TRAIN = "boxes/annotations/instances_train.json"
MISTAKES = {
    "a folder that is not there": ((*VIT, "--data.source=folder:nowhere"), "nowhere: no such"),
    "json that is not there": ((*DETR, "--data.source=coco:nowhere"), "instances_train.json: cann"),
    "xml that is not there": ((*DETR, "--data.source=voc:nowhere"), "nowhere: no such folder"),
    "masks that are not there": ((*UNET, "--data.source=folder:nowhere"), "nowhere/classes.txt"),
    "a checkpoint that is not there": ((*VIT, PHOTOS, "--init=x.safetensors"), "x.safetensors: "),
    "a checkpoint of something else": ((*VIT, PHOTOS, "--init=results.json"), "results.json: "),
    "a split that is not there": ((*VIT, PHOTOS, "--data.train_split=trainn"), "trainn"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_path(mistake, desk, capsys):
    arguments, message = MISTAKES[mistake]
    assert train.__main__.main([*arguments, "--workdir=run"]) == 2
    check_line(capsys.readouterr().err, message)


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if "checkpoint" in name])
def test_a_wrong_checkpoint_is_found_before_anything_compiles(mistake, desk, monkeypatch):
    monkeypatch.setattr(Parallel, "init", lambda *_: pytest.fail("compiled first"))
    arguments, _ = MISTAKES[mistake]
    assert train.__main__.main([*arguments, "--workdir=run"]) == 2


CHANGES = {
    "category ids that are shifted": (
        DETR,
        lambda: rewrite(TRAIN, shift_ids),
        "category_id is none of the categories",
    ),
    "corners instead of sizes": (
        DETR,
        lambda: rewrite(TRAIN, corners),
        "bbox of negative width or height",
    ),
    "an image that is not there": (
        DETR,
        lambda: [path.unlink() for path in Path("boxes/train").iterdir()],
        "cannot be read: No such file",
    ),
    "an image that is cut off": (
        VIT,
        lambda: [p.write_bytes(p.read_bytes()[:300]) for p in Path("photos").rglob("*.jpg")],
        "not a readable image",
    ),
    "a class without images": (
        VIT,
        lambda: Path("photos/train/emu").mkdir(),
        "emu: class folder without images",
    ),
    "a class that is not in train": (
        VIT,
        lambda: shutil.copytree("photos/val/cat", "photos/val/emu"),
        "emu",
    ),
    "a mask in colours": (UNET, colour_mask, "a mask has one channel"),
    "a label beyond the classes": (UNET, label_beyond_the_classes, "9"),
    "an image without mask": (
        UNET,
        lambda: Path("scans/train/masks/0.png").unlink(),
        "0.jpg: nothing of that name in",
    ),
}


@pytest.mark.parametrize("mistake", CHANGES)
def test_wrong_data(mistake, desk, capsys):
    recipe, change, message = CHANGES[mistake]
    change()
    source = {VIT: PHOTOS, DETR: BOXES, UNET: SCANS}[recipe]
    assert train.__main__.main([*recipe, source, "--workdir=run"]) == 2
    check_line(capsys.readouterr().err, message)


def check_line(error: str, message: str) -> None:
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert message in error


def test_shifted_ids_are_explained(desk, capsys):
    rewrite(TRAIN, shift_ids)
    assert train.doctor.main([*DETR, BOXES, "--workdir=run", "--overfit_steps=0"]) == 1
    assert "shifted by one" in capsys.readouterr().out


EVALUATIONS = {
    "no such run": (eval.classification, ("--workdir=nowhere",), "nowhere"),
    "no such annotations": (
        eval.detection,
        ("--annotations=nowhere.json", "--predictions=results.json"),
        "nowhere.json",
    ),
    "no such masks": (
        eval.segmentation,
        ("--annotations=nowhere", "--predictions=scans", "--classes=3"),
        "nowhere: no such folder",
    ),
    "annotations in the place of results": (
        eval.detection,
        ("--annotations=instances.json", "--predictions=instances.json"),
        "instances.json",
    ),
}


@pytest.mark.parametrize("mistake", EVALUATIONS)
def test_wrong_files_of_an_evaluation(mistake, desk, capsys):
    module, arguments, message = EVALUATIONS[mistake]
    assert module.main(arguments) == 2
    check_line(capsys.readouterr().err, message)


def test_results_of_another_set(desk, capsys):
    rewrite("results.json", unknown_image)
    assert eval.detection.main(SCORE) == 2
    check_line(capsys.readouterr().err, "12345")


def test_inspecting_what_is_no_checkpoint(desk, capsys):
    for name in ("nowhere.safetensors", "results.json", "photos"):
        assert zoo.__main__.main(["inspect", name]) == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_images_of_other_modes_are_read(mode, desk):
    suffix = "jpg" if mode == "CMYK" else "png"
    for path in list(Path("photos").rglob("*.jpg")):
        image = Image.open(path).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8)
        path.unlink()
        image.save(path.with_suffix(f".{suffix}"))
    data = ClassificationData("folder:photos", train_split="train", eval_split="val", threads=1)
    batch = next(train_batches(open_classification(data, "train"), 4, seed=0))
    assert batch["valid"].all() and batch["image"].std() > 10


def read_huge(path: str, size: tuple[int, int]) -> dict:
    """Writes an evenly gray image to a path among the photos, and reads it for training."""
    Image.new("L", size, 200).save(path)
    data = ClassificationData("folder:photos", train_split="train", eval_split="val", threads=1)
    dataset = open_classification(data, "train")
    index = next(i for i in range(len(dataset)) if "huge" in dataset.source[i]["name"])
    return dataset.example(index, np.random.default_rng(0))


def test_a_huge_jpeg_is_read(desk):
    example = read_huge("photos/train/cat/huge.jpg", (12_000, 8_000))
    assert example["valid"] and abs(int(example["image"].max()) - 200) < 3


def test_a_huge_png_is_read_beyond_the_limits_of_pillow(desk):
    """The first size gives a warning of Pillow's own reader, the second an error."""
    path = "photos/train/cat/huge.png"
    for size in ((12_000, 8_000), (20_000, 10_000)):
        assert (read_huge(path, size)["image"] == 200).all()
