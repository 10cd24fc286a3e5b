import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import zoo
from train.config import ConfigError, override
from train.doctor import examine
from train.loop import train
from train.recipes import RECIPES
from train.tasks.segmentation import Segmentation
from zoo.data import SegmentationData, train_batches
from zoo.losses.segmentation import LOSSES, pixel_weights
from zoo.models.segmentation.parts.loss import PixelLoss
from zoo.types import InputError

TINY = (
    "--model.name=unet",
    "--model.padding=same",
    "--model.depth=1",
    "--model.base_dim=4",
    "--data.image_size=32,32",
    "--data.train_split=train[:64]",
    "--data.eval_split=test[:6]",
    "--steps=4",
    "--batch_size=4",
)


def make_batch(count=3, size=(24, 24), border=False):
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (count, *size, 3), dtype=np.uint8),
        "label_map": rng.choice([0, 1, 2, 255], (count, *size)).astype(np.uint8),
        "valid": np.arange(count) < count - 1,
    }
    return batch | ({"border": rng.random((count, *size), np.float32)} if border else {})


def test_losses_are_added_up_over_the_valid_pixels_that_have_an_output():
    task = Segmentation(PixelLoss(("cross_entropy", "lovasz"), (1.0, 2.0, 0.5)))
    model = zoo.create("unet", depth=1, base_dim=2, num_classes=3)
    batch, data = make_batch(border=True), SegmentationData()
    variables = jax.jit(task.init, static_argnums=0)(model, jax.random.key(0), batch)
    variables["params"]["head"]["kernel"] += jnp.arange(6.0).reshape(2, 3)

    @jax.jit
    def compute(batch):
        prepared = task.prepare(data, model, jax.random.key(0), batch)
        losses, metrics, _ = task.compute_loss(model, variables, jax.random.key(1), prepared)
        return losses, metrics, model.apply(variables, prepared["images"])

    losses, metrics, logits = compute(batch)
    inside = slice(model.margin, 24 - model.margin)
    labels = jnp.asarray(batch["label_map"][:2, inside, inside])
    border = batch["border"][:2, inside, inside]
    weights = pixel_weights(labels, jnp.asarray(task.loss.class_weights))
    weights = weights + border * (labels != 255)
    for name in task.loss.losses:
        expected = LOSSES[name](logits[:2], labels, weights).mean()
        np.testing.assert_allclose(losses[name].value(), expected, rtol=1e-5)
    right = (logits[:2].argmax(-1) == labels)[labels != 255].mean()
    np.testing.assert_allclose(metrics["pixel_accuracy"].value(), right, rtol=1e-6)

    garbage = batch | {"image": batch["image"].copy()}
    garbage["image"][2] = 0
    jax.tree.map(np.testing.assert_array_equal, compute(garbage)[:2], (losses, metrics))


def test_a_run_logs_its_losses_and_draws_what_it_sees(tmp_path):
    config = override(RECIPES["unet_digit_scenes"](), [*TINY, "--task.loss.losses=dice, focal"])
    assert config.task.loss.losses == ("dice", "focal")
    result = train(config, tmp_path / "run", Console(file=io.StringIO()))
    assert {"mIoU", "pixel_accuracy", "mean_accuracy", "dice"} <= set(result.figures)
    assert 0 < result.figures["mIoU"] < 1
    log = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert all(f'"train/{name}"' in log for name in ("loss", "dice", "focal", "pixel_accuracy"))
    assert (tmp_path / "run" / "pictures" / "4" / "predictions.png").stat().st_size > 5_000


def test_border_weights_are_learned_from_batches():
    data = dataclasses.replace(SegmentationData(train_split="train[:4]"), border_weight=10.0)
    batch = next(train_batches(Segmentation().open(data, "train"), 2, seed=0))
    prepare = jax.jit(lambda batch: Segmentation().prepare(data, None, jax.random.key(0), batch))
    weights = PixelLoss().weights(prepare(batch)["targets"])
    assert weights.max() > 5 and weights.min() == 1


def test_impossible_settings():
    with pytest.raises(ConfigError, match=r"'dyce' is not values, as 1,2,...: each one of cross_"):
        override(RECIPES["unet_digit_scenes"](), ["--task.loss.losses=dyce"])
    for fields, message in (
        ({"losses": ()}, "at least one, and none twice"),
        ({"losses": ("dice", "dice")}, "at least one, and none twice"),
        ({"class_weights": (-1.0, 1.0)}, "must be positive"),
    ):
        with pytest.raises(InputError, match=message):
            PixelLoss(**fields)
    task = Segmentation(PixelLoss(class_weights=(1.0, 1.0)))
    data = SegmentationData(train_split="train[:1]")
    with pytest.raises(InputError, match="2 weights, but there are 11 classes: ground, 0, 1"):
        task.model_fields(data, task.open(data, "train"))


def test_the_doctor_counts_draws_and_scores_the_truth(tmp_path):
    output = io.StringIO()
    config = override(RECIPES["unet_digit_scenes"](), [*TINY, "--data.train_split=train[:2]"])
    problems = examine(config, tmp_path, Console(file=output, width=200), overfit_steps=0)
    assert problems and all("has no pixel in" in problem for problem in problems)
    assert "ground truth as predictions: mIoU 1.0000" in output.getvalue()
    assert (tmp_path / "targets.png").stat().st_size > 5_000
