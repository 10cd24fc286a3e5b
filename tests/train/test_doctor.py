import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from train import doctor
from train.checks import CHECKS
from train.checks.detection import unmatched
from train.checks.files import read_files
from train.config import override
from train.recipes import RECIPES
from zoo.models.detection.efficientdet.loss import EfficientDetLoss
from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.retinanet.loss import RetinaNetLoss
from zoo.ops.anchors import Anchors
from zoo.outputs import Targets

DIGITS = ("--model.num_layers=1", "--batch_size=16", "--data.threads=2")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_has_checks(recipe):
    assert type(RECIPES[recipe]().task) in CHECKS


@pytest.mark.parametrize(
    ("recipe", "truth"), [("vit_digits", "top1 1.0000"), ("mae_digits", "a batch with its targets")]
)
def test_digits_are_well(tmp_path, capsys, recipe, truth):
    arguments = [recipe, *DIGITS, "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 0
    output = capsys.readouterr().out
    assert truth in output and "all is well" in output
    assert (tmp_path / "targets.png").stat().st_size > 5_000


def test_pairs_of_texts_are_well(tmp_path, capsys):
    arguments = ["transformer_number_words", "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 0
    assert "exact_match 1.0000" in capsys.readouterr().out
    assert (tmp_path / "targets.png").stat().st_size > 5_000


def test_texts_of_both_splits_are_a_problem(tmp_path, capsys):
    for split, first in (("train", 0), ("test", 95)):
        lines = [f"text {i}\tText {i}\n" for i in range(first, first + 100)]
        (tmp_path / f"{split}.tsv").write_text("".join(lines))
    data = (f"--data.source=pairs:{tmp_path}", "--data.vocab_size=300")
    arguments = ["transformer_number_words", *data, "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 1
    assert "5 sources of eval are in train, too" in capsys.readouterr().out


def test_a_class_without_images_is_a_problem(tmp_path, capsys):
    few = "--data.eval_split=test[:3]"  # too few for ten digits
    arguments = ["vit_digits", *DIGITS, few, "--overfit_steps=0", f"--workdir={tmp_path}"]
    assert doctor.main(arguments) == 1
    assert "has no image in eval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no recipe 'nothing'"),
        (["vit_digits", "--files=many"], "--files=many is neither all nor a number of files"),
        (["vit_digits", "--overfit_steps=many"], "--overfit_steps=many is no number of steps"),
        (["vit_digits", "--colour=red"], "no field 'colour'"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    assert doctor.main([*arguments, f"--workdir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def encoded(seed, size=(24, 32), kind="JPEG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def class_folders(folder):
    """Six images of two classes in each split; two of them are damaged."""
    for split in ("train", "val"):
        for label in "ab":
            place = folder / split / label
            place.mkdir(parents=True)
            for i in range(3):
                (place / f"{i}.jpg").write_bytes(encoded(i))
    (folder / "train/b/2.jpg").write_bytes(encoded(2)[:-200])
    (folder / "val/a/1.jpg").write_bytes(b"")
    return f"--data.source=folder:{folder}", "--data.eval_split=val"


def mask_folders(folder):
    """Four pairs in each split; one image is cut off, one mask too small."""
    (folder / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("ground\ncat\n")
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for i in range(4):
            (folder / split / "images" / f"{i}.jpg").write_bytes(encoded(i))
            mask = np.pad(np.ones((8, 8), np.uint8), ((8, 8), (12, 12)))
            Image.fromarray(mask).save(folder / split / "masks" / f"{i}.png")
    (folder / "train/images/2.jpg").write_bytes(encoded(2)[:700])
    Image.new("L", (9, 9)).save(folder / "val/masks/1.png")
    splits = ("--data.train_split=train", "--data.eval_split=val")
    return f"--data.source=folder:{folder}", *splits, "--data.image_size=16,16"


def coco_folders(folder):
    """Four images with a box in each split; one is missing, one is not of the json's size."""
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / split).mkdir()
        images, annotations = [], []
        for i in range(4):
            (folder / split / f"{i}.jpg").write_bytes(encoded(i))
            images.append(dict(id=i, file_name=f"{i}.jpg", height=24, width=32))
            annotations.append(dict(id=i, image_id=i, category_id=1, bbox=[4, 4, 9, 9], area=81))
        content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="cat")])
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    (folder / "train/2.jpg").unlink()
    (folder / "val/1.jpg").write_bytes(encoded(1, (32, 24)))
    return (
        f"--data.source=coco:{folder}",
        *("--data.train_split=train", "--data.eval_split=val", "--data.buckets=[[32,32]]"),
    )


FILES = {
    "vit_digits": (class_folders, ("train/b/2.jpg", "val/a/1.jpg"), 6),
    "mae_digits": (class_folders, ("train/b/2.jpg", "val/a/1.jpg"), 6),
    "unet_digit_scenes": (mask_folders, ("train/images/2.jpg", "val/images/1.jpg"), 4),
    "detr_digit_scenes": (coco_folders, ("train/2.jpg", "val/1.jpg"), 4),
}


def examine(recipe, tmp_path, *arguments):
    own = ("--batch_size=2", "--data.threads=2", "--overfit_steps=0")
    return doctor.main([recipe, *own, f"--workdir={tmp_path / 'doctor'}", *arguments])


@pytest.mark.parametrize("recipe", FILES)
def test_every_file_is_decoded(recipe, tmp_path, capsys, caplog):
    write, (train, held_out), count = FILES[recipe]
    source = write(tmp_path / "data")
    assert examine(recipe, tmp_path, *source) == 1
    output = capsys.readouterr().out
    assert f"train: {count} of {count} files were read\n" in output
    for split, bad in (("train", train), ("eval", held_out)):
        assert f"PROBLEM: {split}: 1 of {count} files cannot be used\n" in output
        assert f"PROBLEM: {split}: {tmp_path}/data/{bad}: " in output
    assert (tmp_path / "doctor/targets.png").exists()  # the other checks are made, too

    assert examine(recipe, tmp_path, *source, "--data.on_error=skip") == 0
    output = capsys.readouterr().out
    assert f"left out: train: {tmp_path}/data/{train}: " in output and "all is well" in output


def test_the_truth_of_letterboxed_images_comes_back(tmp_path, capsys):
    """Wide images in square frames, for a YOLO: the true boxes as predictions have AP 1."""
    source = (*coco_folders(tmp_path / "data"), "--data.letterbox=true", "--data.on_error=skip")
    assert examine("yolo_digit_scenes", tmp_path, *source) == 0
    assert "ground truth as predictions: AP 1.0000" in capsys.readouterr().out


def test_some_files_or_none_are_decoded(tmp_path, capsys, caplog):
    source = class_folders(tmp_path / "data")
    assert examine("vit_digits", tmp_path, *source, "--files=1") == 2  # named by a later check
    output = capsys.readouterr().out
    assert "train: 1 of 6 files were read; --files=all reads all\n" in output
    assert examine("vit_digits", tmp_path, *source, "--files=all") == 1
    assert "train: 6 of 6 files were read\n" in capsys.readouterr().out
    assert examine("vit_digits", tmp_path, *source, "--files=0", "--data.on_error=skip") == 0
    assert "files were read" not in capsys.readouterr().out


def test_many_bad_files_are_listed_in_a_file(tmp_path, capsys, caplog):
    source = class_folders(tmp_path / "data")
    for i in range(3, 40):
        (tmp_path / "data/train/a" / f"{i}.jpg").write_bytes(b"nothing")
    assert examine("vit_digits", tmp_path, *source) == 1
    output = capsys.readouterr().out
    assert "PROBLEM: train: 38 of 43 files cannot be used\n" in output
    path = tmp_path / "doctor/unreadable_train.txt"
    assert f"PROBLEM: train: 18 more files; all are listed in {path}\n" in output
    assert len(path.read_text().splitlines()) == 38


def test_a_split_without_a_readable_file_is_named(tmp_path, capsys):
    source = class_folders(tmp_path / "data")
    for path in (tmp_path / "data/train").rglob("*.jpg"):
        path.write_bytes(b"nothing")
    assert examine("vit_digits", tmp_path, *source) == 1
    assert "PROBLEM: train: 6 of 6 files cannot be used\n" in capsys.readouterr().out


def test_reading_shows_a_bar_on_a_terminal(tmp_path):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    config = override(RECIPES["vit_digits"](), [*class_folders(tmp_path)])
    dataset = config.task.open(config.data, "eval")
    reading = read_files(dataset, dataset.transform, None, console, "reading the files of eval")
    assert (len(reading.errors), reading.read, reading.total) == (1, 6, 6)
    assert "reading the files of eval" in output.getvalue()


def test_masks_of_0_and_255_are_a_problem(tmp_path, capsys):
    source = mask_folders(tmp_path / "data")
    for path in (tmp_path / "data").rglob("masks/*.png"):
        mask = np.pad(np.full((8, 8), 255, np.uint8), ((8, 8), (12, 12)))
        Image.fromarray(mask).save(path)
    (tmp_path / "data/train/images/2.jpg").write_bytes(encoded(2))
    assert examine("unet_digit_scenes", tmp_path, *source) == 1
    problem = (
        "8.33% of the pixels have the label 255, which is ignored, and all others are of class"
    )
    assert f"PROBLEM: train: {problem} 'ground': if 255 is a class" in capsys.readouterr().out


@pytest.mark.parametrize("loss", [RetinaNetLoss(), EfficientDetLoss()], ids=["ties", "best"])
def test_anchors_that_fit_no_object_are_a_problem(loss):
    """The anchors of COCO, from 32 px on, for objects of 8 to 28 px; and an unused level."""
    boxes = [[8.0, 8, 22, 28], [30, 30, 40, 48], [50, 5, 58, 14]]
    targets = Targets(
        jnp.array([boxes]),
        jnp.zeros((1, 3), jnp.int32),
        jnp.ones((1, 3), bool),
        jnp.full((1, 2), 64),
        jnp.ones(1, bool),
    )
    found = {}
    for name, sizes in (("nano", ((9, 11, 14), (16, 20, 25))), ("large", ((32,), (64,)))):
        levels = Anchors(sizes, (1.0, 1.5, 2.2), (4, 8)).per_level([(16, 16), (8, 8)])
        anchors = jnp.concatenate(levels)[None]
        zeros, counts = jnp.zeros_like(anchors), tuple(map(len, levels))
        output = DenseOutput(zeros[..., :3], zeros, anchors, level_sizes=counts)
        _, metrics = jax.jit(loss.__call__)(output, targets)
        found[name] = unmatched({key: float(mean.value()) for key, mean in metrics.items()})
    assert found["nano"] == ([], [])
    notes, problems = found["large"]
    assert notes == ["no object of the batch has an anchor or a point of level 1"]
    assert len(problems) == 1
    assert problems[0].startswith("only 0% of the batch's objects have a fitting anchor")
    assert unmatched({"loss": 1.0}) == ([], [])
