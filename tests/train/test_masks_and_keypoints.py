"""Masks in boxes, and keypoints: from the data through a run to its figures and pictures."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from rich.console import Console

import eval.detection
import zoo
from eval import detectors
from eval.overlap import COCO_SIGMAS, OTHER_SIGMA
from tests import dots
from tests.eval import generate, oracle
from train import doctor as doctor_command
from train.config import override
from train.log import read_metrics
from train.loop import train
from train.recipes import RECIPES
from zoo.data import DataError, DetectionData, normalize, open_detection, train_batches
from zoo.ops.instance_masks import paste_masks
from zoo.outputs import Detections
from zoo.types import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    dots.register(monkeypatch)
    return dots.write(tmp_path / "dots")


def data_of(folder, **fields):
    """Images are shrunk to a shorter side of 48 px and padded."""
    return DetectionData(
        **{
            "source": f"coco:{folder}",
            "train_split": "train",
            "eval_split": "val",
            "buckets": ((64, 96), (96, 64)),
            "short_sides": (48,),
            "long_side": 96,
            "max_objects": 30,
            "keypoints": True,
            "threads": 1,
            **fields,
        }
    )


def as_given(batch):
    return batch


def model_and_variables():
    model = zoo.create("dots_nano")
    return model, model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))


def collect(data):
    examples = open_detection(data, "eval")
    model, variables = model_and_variables()
    return detectors.evaluator(model, data, examples, 2, as_given)(variables), examples


def test_keypoints_come_back_from_resizing_padding_and_turning(folder):
    collected, examples = collect(data_of(folder))
    _, detections = collected.rows()
    assert len(detections) == len(dots.SIZES)
    truth = np.stack([dots.draw(i, size)[1] for i, size in enumerate(dots.SIZES)])
    order = np.argsort(detections.images)
    # The images are shrunk by up to 2.5, so the dots' centres are found within half a pixel.
    np.testing.assert_allclose(detections.keypoints[order][..., :2], truth[..., :2], atol=0.5)
    figures = detectors.all_figures(collected, data_of(folder), examples)
    assert figures["keypoint_AP"] == figures["keypoint_AR"] == 1.0
    assert figures["AP50"] < 1  # the object without joints is there for boxes only
    assert not any(name.startswith("mask") for name in figures)  # the data have no masks


def test_keypoints_of_stored_pixels_are_not_those_of_the_upright_image(folder):
    with pytest.raises(InputError, match=r"EXIF's orientation may be why"):
        collect(data_of(folder, upright=False))


def test_mirrored_keypoints_are_those_of_the_mirrored_image(folder):
    data = data_of(folder, flip=True)
    examples = open_detection(data, "train")
    model, variables = model_and_variables()
    mirrored = examples.source.joints.mirrored
    flipped = set()
    batches = train_batches(examples, 4, seed=0)
    for _ in range(6):
        batch = next(batches)
        images = normalize(batch["image"], data.mean, data.std)
        found = np.asarray(model.apply(variables, images).points)
        for points, joints in zip(found, batch["keypoints"][:, 0], strict=True):
            ways = [abs(way - joints[:, :2]).max() for way in (points, points[mirrored])]
            assert min(ways) < 0.5  # training resizes without a filter
            flipped.add(ways[1] < ways[0])
    assert flipped == {True, False}


def test_keypoints_are_trained_on_and_scored_as_by_pycocotools(folder, tmp_path, capsys):
    config = override(
        RECIPES["detr_digit_scenes"](),
        [
            "--model.name=dots_nano",
            *(f"--data.source=coco:{folder}", "--data.train_split=train", "--data.eval_split=val"),
            *("--data.buckets=[[64,96],[96,64]]", "--data.short_sides=[48]"),
            *("--data.long_side=96", "--data.keypoints=true", "--data.threads=1"),
            *("--optim.name=adamw", "--optim.warmup_steps=1", "--batch_size=8"),
            *("--steps=2", "--log_every=1", "--eval_every=2", "--checkpoint_every=2"),
        ],
    )
    workdir = tmp_path / "run"
    train(config, workdir, Console(file=io.StringIO()))
    first, last = read_metrics(workdir / "metrics.jsonl")
    parts = first["train/across"], first["train/down"]
    assert 0 < min(parts) and first["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert first["train/loss"] < 0.1  # a tenth of the pixels: the joints are those of the images
    assert last["eval/keypoint_AP"] == 1.0

    results = tmp_path / "results.json"
    options = [f"--workdir={workdir}", "--checkpoint=last", "--iou_type=keypoints"]
    written = [f"--json={tmp_path / 'figures.json'}", f"--results={results}"]
    # Sigmas so small that the half pixels of resizing count.
    sigmas = ["--sigmas=0.004,0.005,0.006"]
    assert eval.detection.main([*options, *written, *sigmas]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    truth = json.loads((folder / "annotations" / "person_keypoints_val.json").read_text())
    found = json.loads(results.read_text())
    assert all("bbox" not in entry and len(entry["keypoints"]) == 9 for entry in found)
    official = oracle.evaluate(truth, found, "keypoints", sigmas=[0.004, 0.005, 0.006])
    names = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
    assert 0 < official.stats[0] < 1
    # The file has hundredths of pixels.
    np.testing.assert_allclose([figures[name] for name in names], official.stats, atol=0.02)
    annotations = folder / "annotations" / "person_keypoints_val.json"
    files = [f"--annotations={annotations}", f"--predictions={results}", "--iou_type=keypoints"]
    assert eval.detection.main([*files, *sigmas, f"--json={tmp_path / 'b.json'}"]) == 0
    capsys.readouterr()
    assert eval.detection.main(files) == 0
    assert "COCO has no sigmas for 3 joints; each is 0.067" in capsys.readouterr().err
    of_files = json.loads((tmp_path / "b.json").read_text())
    np.testing.assert_array_equal([of_files[name] for name in names], official.stats)

    capsys.readouterr()
    assert eval.detection.main([*options, f"--plots={tmp_path / 'plots'}"]) == 0
    output, error = capsys.readouterr()
    assert output.count("Average") == 10 and "maxDets= 20" in output
    assert "COCO has no sigmas for 3 joints; each is 0.067" in error
    for wrong, message in (
        (["--sigmas=0.1,0.2"], "3 joints but 2 --sigmas"),
        (["--sigmas=0.1,0.2,0"], "--sigmas: 0.1,0.2,0, but must be positive"),
        (["--iou_type=segm"], "is a run without masks"),
    ):
        assert eval.detection.main([*options, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_the_doctor_scores_and_draws_keypoints(folder, tmp_path, capsys, monkeypatch):
    panels = []
    monkeypatch.setattr(
        "train.checks.detection.draw_boxes", lambda shown, path: panels.extend(shown)
    )
    own = [f"--data.source=coco:{folder}", "--data.train_split=train", "--data.eval_split=val"]
    own += ["--data.buckets=[[64,96],[96,64]]", "--data.short_sides=[48]", "--data.long_side=96"]
    own += ["--data.keypoints=true", "--data.threads=1", "--batch_size=8", "--data.flip=true"]
    own += [f"--workdir={tmp_path / 'doctor'}", "--overfit_steps=3", "--optim.name=adamw"]
    doctor_command.main(["detr_digit_scenes", "--model.name=dots_nano", *own])
    output = " ".join(capsys.readouterr().out.split())
    assert "ground truth as predictions: AP 1.0000" in output
    assert "ground truth as predictions: keypoint_AP 1.0000" in output
    assert "(across " in output and "finds no keypoints" not in output
    assert len(panels) == 8 and all(panel.limbs == dots.BONES for panel in panels)
    for panel in panels:  # each joint is drawn on its dot, or on that of its mirror image
        x, y, _ = panel.found_keypoints[0].T.astype(int)
        colours = panel.image[y, x]
        assert [sorted(colour.tolist())[1] < colour.max() / 2 for colour in colours] == [True] * 3

    small = ["--overfit_steps=0", "--files=0", "--model.num_encoder_layers=1"]
    assert doctor_command.main(["detr_digit_scenes", *own, *small]) == 1
    problem = "PROBLEM: data.keypoints is true, but detr_nano finds no keypoints"
    assert problem in " ".join(capsys.readouterr().out.split())


def test_masks_that_only_the_loss_needs_are_no_problem(tmp_path, capsys):
    own = ["--overfit_steps=0", "--files=0", "--batch_size=2", f"--workdir={tmp_path}"]
    own += ["--data.train_split=train[:4]", "--data.eval_split=test[:2]", "--data.threads=1"]
    doctor_command.main(["extremenet_digit_scenes", *own])
    assert "finds no" not in capsys.readouterr().out


def test_joints_of_the_model_and_of_the_data_must_be_as_many(folder):
    data = data_of(folder)
    with pytest.raises(DataError, match=r"data.sigmas are 2, but the data have 3 joints"):
        open_detection(dataclasses.replace(data, sigmas=(0.1, 0.2)), "eval")
    with pytest.raises(DataError, match=r"data.sigmas is .*, but must be positive"):
        open_detection(dataclasses.replace(data, sigmas=(0.1, 0.2, 0.0)), "eval")
    examples = open_detection(data, "eval")
    np.testing.assert_array_equal(detectors.sigmas_of(data, examples), [OTHER_SIGMA] * 3)
    given = dataclasses.replace(data, sigmas=(0.1, 0.2, 0.3))
    np.testing.assert_array_equal(detectors.sigmas_of(given, examples), [0.1, 0.2, 0.3])

    def four(batch):
        b = len(batch["image"])
        no = np.zeros((b, 0), bool)
        boxes, keypoints = np.zeros((b, 0, 4)), np.zeros((b, 0, 4, 3))
        return Detections(boxes, no * 1.0, no * 1, no, keypoints=keypoints)

    with pytest.raises(InputError, match="the model has 4 joints, but the data have 3"):
        detectors.collect(four, examples, 2, as_given)


def write_awkward(folder, seed, iou_type):
    """Drawn annotations with blank images; and the drawn results by image id."""
    dataset, results = generate.awkward(seed, iou_type)
    kind = "person_keypoints" if iou_type == "keypoints" else "instances"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val").mkdir()
    (folder / "annotations" / f"{kind}_val.json").write_text(json.dumps(dataset))
    for image in dataset["images"]:
        size = (image["width"], image["height"])
        Image.new("RGB", size).save(folder / "val" / image["file_name"])
    data = data_of(
        folder,
        train_split="val",
        keypoints=iou_type == "keypoints",
        masks=iou_type == "segm",
        buckets=((48, 56),),
        short_sides=(),
        too_many="drop_smallest",
    )
    return dataset, results, open_detection(data, "eval")


def predict_results(results, dataset, examples, **columns):
    """A function that returns drawn results as a detector's padded detections."""
    labels = {c: i for i, c in enumerate(examples.source.category_ids)}
    ids = sorted(image["id"] for image in dataset["images"])
    most = max(sum(r["image_id"] == i for r in results) for i in ids) + 1

    def pad(rows):
        empty = np.zeros((most, *np.shape(rows)[1:]))
        empty[: len(rows)] = rows
        return empty

    def predict(batch):
        parts = []
        for index in batch["index"].tolist():
            own = [r for r in results if index >= 0 and r["image_id"] == ids[index]]
            own = own or [results[0]]
            boxes = np.array([r["bbox"] for r in own])
            boxes[:, 2:] += boxes[:, :2]
            there = [index >= 0 and r["image_id"] == ids[index] for r in own]
            fields = [boxes, [r["score"] for r in own], [labels[r["category_id"]] for r in own]]
            fields += [there, *([column(r) for r in own] for column in columns.values())]
            parts.append([pad(field) for field in fields])
        boxes, scores, classes, there, *more = map(np.stack, zip(*parts, strict=True))
        more = dict(zip(columns, more, strict=True))
        return Detections(boxes, scores, classes.astype(int), there > 0, **more)

    return predict


@pytest.mark.parametrize("seed", [2, 3, 4, 5, 6, 8])
def test_noisy_keypoints_score_as_by_pycocotools(tmp_path, seed):
    dataset, results, examples = write_awkward(tmp_path / "own", seed, "keypoints")
    without_boxes = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    results = [{"bbox": [0, 0, 1, 1], **r} for r in results]

    def joints(result):
        return np.reshape(result["keypoints"], (17, 3))

    predict = predict_results(results, dataset, examples, keypoints=joints)
    collected = detectors.collect(predict, examples, 3, as_given).by_keypoints(COCO_SIGMAS)
    figures = collected.compute()
    official = oracle.evaluate(dataset, without_boxes, "keypoints")
    stats = [figures[line.key] for line in collected.lines]
    assert 0 < official.stats[0] < 1
    np.testing.assert_array_equal(stats, official.stats)


@pytest.mark.parametrize("seed", [2, 5, 14, 17])
@pytest.mark.parametrize("paste", ["centres", "whole_pixels"])
def test_masks_in_boxes_score_as_by_pycocotools(tmp_path, seed, paste):
    """Each mask is pasted as a whole and encoded by pycocotools, then scored by it."""
    dataset, results, examples = write_awkward(tmp_path / "own", seed, "segm")
    sizes = {image["id"]: (image["height"], image["width"]) for image in dataset["images"]}
    y, x = np.mgrid[:14, :14] / 13 * 2 - 1
    for i, result in enumerate(results):
        result["crop"] = np.clip(1.2 - (abs(x) + abs(y)) * (0.6 + i % 3 / 5), 0, 1)
    predict = predict_results(results, dataset, examples, mask_crops=lambda r: r["crop"])

    def pasting(batch):
        return predict(batch).replace(paste=paste)

    written = []
    for result in results:
        left, top, width, height = result["bbox"]
        box = np.array([[left, top, left + width, top + height]])
        pasted = paste_masks(result["crop"][None], box, sizes[result["image_id"]], paste)[0] >= 0.5
        runs = coco_mask.encode(np.asfortranarray(pasted.astype(np.uint8)))
        number = {name: result[name] for name in ("image_id", "category_id", "score")}
        written.append({**number, "segmentation": runs})
    collected = detectors.collect(pasting, examples, 3, as_given)
    found = collected.by_masks()
    figures = found.compute()
    official = oracle.evaluate(dataset, written, "segm")
    assert 0 < official.stats[0] < 1
    np.testing.assert_array_equal([figures[line.key] for line in found.lines], official.stats)
    assert not detectors.collect(pasting, examples, 3, as_given, masks=False).has_masks


def test_pictures_of_evaluation_have_masks_joints_and_limbs(folder, tmp_path, monkeypatch):
    panels = []
    monkeypatch.setattr("eval.detectors.draw_boxes", lambda shown, path: panels.extend(shown))
    data = data_of(folder)
    examples = open_detection(data, "eval")
    model, variables = model_and_variables()
    detectors.picture(model, data, examples, as_given)(variables, tmp_path / "a.png")
    assert len(panels) == len(dots.SIZES)
    for i, panel in enumerate(panels):
        image, joints = dots.draw(i, dots.SIZES[i])
        np.testing.assert_allclose(panel.found_keypoints[0, :, :2], joints[:, :2], atol=0.5)
        np.testing.assert_array_equal(panel.true_keypoints[0], joints)
        assert panel.limbs == dots.BONES
        painted = (panel.image != image).any(axis=-1)
        mask = paste_masks(dots.CROP[None], panel.found, image.shape[:2], "whole_pixels")[0] >= 0.5
        assert not (painted & ~mask).any() and painted.sum() > 0.9 * mask.sum()
