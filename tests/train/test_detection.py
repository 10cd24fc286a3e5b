import io
import json
import logging
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import eval.detection
import zoo
from eval.detectors import collect
from train import doctor as doctor_command
from train.__main__ import main
from train.checks.detection import box_problems
from train.config import override
from train.log import read_metrics
from train.loop import _Run, train
from train.recipes import RECIPES
from zoo.data import DetectionData, open_detection
from zoo.data.annotations import Annotations
from zoo.data.digit_scenes import draw_scene
from zoo.outputs import Detections

TINY = (
    "--model.hidden_dim=16",
    "--model.num_heads=2",
    "--model.mlp_dim=16",
    "--model.num_encoder_layers=1",
    "--model.num_decoder_layers=2",
    '--model.backbone_fields={"num_blocks": [1], "stage_dims": [8], "stem_dim": 8}',
    "--batch_size=8",
    "--optim.name=adamw",  # muon takes longer to compile
    "--optim.warmup_steps=5",
    "--data.threads=2",
)
SCENES = ("--data.train_split=train[:50]", "--data.eval_split=test[:12]")
CATEGORIES = {0: 7, 1: 3, 2: 90}  # category ids of three digits, neither contiguous nor in order


@pytest.fixture
def coco(tmp_path):
    """A function that writes scenes with the digits 0 to 2 and a COCO json, and their folder."""

    def write(change=lambda file: file):
        for split, count in (("train", 20), ("val", 8)):
            folder = tmp_path / "own" / split
            folder.mkdir(parents=True, exist_ok=True)
            (folder.parent / "annotations").mkdir(exist_ok=True)
            images, annotations = [], []
            for index in range(count):
                scene = draw_scene("train" if split == "train" else "test", index)
                size = (64, 64) if index % 2 else (64, 48)  # height, width
                Image.fromarray(scene.image[: size[0], : size[1]]).save(folder / f"{index}.png")
                name = f"{index}.png"
                images.append(dict(id=500 - index, file_name=name, height=size[0], width=size[1]))
                for label, (left, top, right, bottom) in zip(
                    scene.labels.tolist(), scene.boxes.tolist(), strict=True
                ):
                    if label in CATEGORIES and right <= size[1]:
                        box = [left, top, right - left, bottom - top]
                        annotations.append(
                            dict(
                                id=len(annotations) + 1,
                                image_id=500 - index,
                                category_id=CATEGORIES[label],
                                bbox=box,
                                area=box[2] * box[3],
                                iscrowd=0,
                            )
                        )
            categories = [dict(id=i, name=f"digit {digit}") for digit, i in CATEGORIES.items()]
            file = dict(images=images, annotations=annotations, categories=categories)
            path = folder.parent / "annotations" / f"instances_{split}.json"
            path.write_text(json.dumps(change(file)))
        return tmp_path / "own"

    return write


def own_data(folder, buckets="[[64,64],[64,48]]"):
    return (
        f"--data.source=coco:{folder}",
        "--data.train_split=train",
        "--data.eval_split=val",
        f"--data.buckets={buckets}",
    )


def run(workdir, *overrides):
    output = io.StringIO()
    config = override(RECIPES["detr_digit_scenes"](), [*TINY, *overrides])
    return train(config, workdir, Console(file=output, width=200)), output.getvalue()


def doctor(tmp_path, *arguments):
    return doctor_command.main(
        ["detr_digit_scenes", f"--workdir={tmp_path / 'doctor'}", *TINY, *arguments]
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The folder of a run, and its result."""
    folder = tmp_path_factory.mktemp("scenes")
    steps = ("--steps=6", "--log_every=3", "--eval_every=6", "--checkpoint_every=6")
    return folder, run(folder, *SCENES, *steps)[0]


def test_a_run_is_scored_during_training_and_again_from_its_folder(scenes, tmp_path, capsys):
    folder, result = scenes
    entries = read_metrics(folder / "metrics.jsonl")
    assert {"train/class", "train/l1", "train/giou", "train/class_accuracy"} < entries[0].keys()
    assert entries[-1]["eval/AP"] == result.figures["AP"]
    assert (folder / "pictures" / "6" / "detections.png").stat().st_size > 10_000

    arguments = [f"--workdir={folder}", f"--json={tmp_path / 'o.json'}"]
    arguments += [f"--results={tmp_path / 'results.json'}", f"--plots={tmp_path / 'plots'}"]
    assert eval.detection.main([*arguments, "--checkpoint=last"]) == 0
    figures = json.loads((tmp_path / "o.json").read_text())
    assert {name: figures[name] for name in result.figures} == result.figures
    assert figures["step"] == 6
    assert capsys.readouterr().out.count("Average") == 12
    found = json.loads((tmp_path / "results.json").read_text())
    assert len(found) == 12 * zoo.create("detr_nano").num_queries
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {"worst.png", "confusion.png"}


def test_own_coco_json_with_ids_that_are_not_contiguous(coco, tmp_path, capsys):
    folder = coco()
    assert doctor(tmp_path, *own_data(folder), "--overfit_steps=0") == 0
    output = capsys.readouterr().out
    assert "ground truth as predictions: AP 1.0000" in output
    for category, name in ((3, "digit 1"), (7, "digit 0"), (90, "digit 2")):
        assert any(f" {category} " in line and name in line for line in output.splitlines())
    assert (tmp_path / "doctor" / "targets.png").exists()

    steps = ("--steps=4", "--log_every=4", "--eval_every=4", "--checkpoint_every=4")
    run(tmp_path / "run", *own_data(folder, "[[64,64]]"), *steps)
    results = tmp_path / "results.json"
    arguments = [f"--workdir={tmp_path / 'run'}", f"--results={results}", "--checkpoint=last"]
    assert eval.detection.main([*arguments, f"--json={tmp_path / 'a.json'}"]) == 0
    found = json.loads(results.read_text())
    assert {entry["category_id"] for entry in found} <= set(CATEGORIES.values())
    assert {entry["image_id"] for entry in found} == set(range(493, 501))
    # Evaluation of the files gives the same figures as evaluation of the run.
    annotations = folder / "annotations" / "instances_val.json"
    arguments = [f"--annotations={annotations}", f"--predictions={results}"]
    assert eval.detection.main([*arguments, f"--json={tmp_path / 'b.json'}"]) == 0
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert [a[key] for key in ("AP50", "AR100")] == pytest.approx([b["AP50"], b["AR100"]], abs=1e-3)


def edit(key, function):
    def change(file):
        for annotation in file["annotations"]:
            annotation[key] = function(annotation[key])
        return file

    return change


MISTAKES = {
    "category ids 2..89 are shifted by one": edit("category_id", lambda i: i - 1),
    "look like [x1, y1, x2, y2]": edit("bbox", lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
    "look like shares of the image": edit("bbox", lambda b: [value / 64 for value in b]),
    "made for images of a different size": edit("bbox", lambda b: [value * 4 for value in b]),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_the_doctor_names_the_mistake(coco, tmp_path, capsys, caplog, message):
    caplog.set_level(logging.ERROR)
    folder = coco(MISTAKES[message])
    assert doctor(tmp_path, *own_data(folder), "--overfit_steps=0") == 1
    assert message in " ".join(capsys.readouterr().out.split())


def test_a_category_without_boxes_is_a_problem(coco, tmp_path, capsys):
    def add(file):
        file["categories"].append(dict(id=91, name="dragon"))
        return file

    assert doctor(tmp_path, *own_data(coco(add)), "--overfit_steps=0") == 1
    assert "train: category 91 (dragon) has no box" in capsys.readouterr().out


def test_boxes_that_are_right_are_no_problem():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (40, 2))
    boxes = np.concatenate([corner, rng.uniform(1, 50, (40, 2))], axis=1)
    no = np.zeros(40, bool)
    found = Annotations(1, (100, 100), boxes, np.zeros(40, np.int32), np.ones(40), no, no)
    assert box_problems([found]) == []


@pytest.mark.slow
def test_the_doctor_overfits_a_batch(tmp_path, capsys):
    arguments = ("--overfit_steps=25", "--optim.learning_rate=0.003")
    assert doctor(tmp_path, *SCENES, *arguments) == 0
    assert "all is well" in capsys.readouterr().out
    assert doctor(tmp_path, *SCENES, "--overfit_steps=3", "--optim.learning_rate=0") == 1
    assert "PROBLEM: the loss of one batch only goes from" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("family", ["retinanet", "fcos", "ssd", "yolo", "centernet", "cornernet"])
def test_every_object_of_a_batch_can_be_learnt(family, tmp_path, capsys):
    """A sign that targets, loss and decoding of a dense detector belong together."""
    own = ("--batch_size=4", "--overfit_steps=300", "--files=0", f"--workdir={tmp_path}")
    assert doctor_command.main([f"{family}_digit_scenes", *SCENES, *own]) == 0
    score = re.search(r"that batch, evaluated: AP ([0-9.]+), AP50", capsys.readouterr().out)
    assert float(score[1]) >= 0.99


def test_mixed_sizes_compile_a_program_a_bucket(coco, tmp_path, monkeypatch):
    runs = []

    def remember(self, *arguments):
        original(self, *arguments)
        runs.append(self)

    original = _Run.__init__
    monkeypatch.setattr(_Run, "__init__", remember)
    run(tmp_path / "run", *own_data(coco()), "--steps=12", "--eval_every=12", "--log_every=12")
    assert runs[0].step._cache_size() == 2


@pytest.mark.slow
def test_masks_are_trained_on_and_scored(tmp_path):
    backbone = '{"num_blocks": [1, 1, 1, 1], "stage_dims": [8, 8, 8, 8], "stem_dim": 8}'
    sizes = ("--model.hidden_dim=64", "--model.num_heads=8")  # the head's norms have 8 groups
    masks = ("--data.masks=true", f"--model.backbone_fields={backbone}", *sizes)
    steps = ("--steps=2", "--log_every=1", "--eval_every=2", "--checkpoint_every=2")
    run(tmp_path / "run", *SCENES, *steps, *masks)
    first, last = read_metrics(tmp_path / "run" / "metrics.jsonl")
    parts = ("class", "l1", "giou", "focal", "dice")
    total = sum(first[f"train/{part}"] for part in parts)
    assert first["train/loss"] == pytest.approx(total, rel=1e-5)
    assert 0 < last["train/dice"] < 1.0
    output, results = (tmp_path / name for name in ("figures.json", "results.json"))
    options = [f"--workdir={tmp_path / 'run'}", f"--json={output}", f"--results={results}"]
    assert not eval.detection.main([*options, "--checkpoint=last", "--iou_type=segm"])
    figures = json.loads(output.read_text())
    names = ("AP", "AP50", "AR100")
    assert [figures[n] for n in names] == [last[f"eval/mask_{n}"] for n in names]
    entry = json.loads(results.read_text())[0]
    assert entry["segmentation"]["size"] == [64, 64] and "bbox" not in entry
    model, variables = zoo.load(tmp_path / "run")
    found = zoo.predict(
        model,
        variables,
        draw_scene("test", 0).image[:48],
        preprocessing=zoo.preprocessing(tmp_path / "run"),
    )
    assert found.masks.shape == (20, 48, 64)


def test_masks_of_a_run_without_any_are_an_error_of_one_line(scenes, capsys):
    folder, _ = scenes
    assert eval.detection.main([f"--workdir={folder}", "--iou_type=segm"]) == 2
    assert f"error: --iou_type=segm: {folder} is a run without masks" in capsys.readouterr().err


def test_the_annotated_masks_themselves_score_one():
    data = DetectionData(eval_split="test[:6]", masks=True)
    examples = open_detection(data, "eval")

    def perfect(batch):
        labels = np.where(batch["box_valid"], batch["labels"], 10)
        scale = 64.0  # boxes at wrong places: only masks are scored
        valid = batch["box_valid"]
        masks = batch["masks"] - 0.5
        return Detections(batch["boxes"] / scale, valid * 1.0, labels, valid, masks)

    collected = collect(perfect, examples, 4, lambda batch: batch)
    assert collected.by_masks().compute()["AP"] == 1.0
    assert collected.compute()["AP"] == 0.0


def test_more_objects_than_queries_name_both_flags_before_anything_compiles(coco, tmp_path, capsys):
    own = coco()
    arguments = ["detr_finetune", "--model.name=detr_nano", *TINY, f"--data.source=coco:{own}"]
    small = ["--data.buckets=[[64,64]]", "--data.short_sides=[]", "--data.random_crop=false"]
    few = [*arguments, *small, "--model.num_queries=1", f"--workdir={tmp_path / 'run'}"]
    for command in (main, doctor_command.main):
        assert command([*few, "--optim.multipliers={}"]) == 2
        output, error = capsys.readouterr()
        assert error.count("\n") == 1 and "detr_nano has only 1 queries" in error
        assert "--model.num_queries=" in error and "--data.max_objects=1" in error
        assert "compiling" not in output
