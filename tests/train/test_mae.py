"""Tiny masked autoencoders, from pre-training to a classifier."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from rich.console import Console

import eval.classification
import eval.knn
import eval.reconstruction
import zoo
from train.config import override
from train.log import read_metrics
from train.loop import train
from train.recipes import RECIPES
from train.tasks.mae import MaskedAutoencoding
from zoo.types import InputError

ENCODER = ("--model.num_layers=1", "--model.hidden_dim=16", "--model.mlp_dim=32")
ENCODER = (*ENCODER, "--model.num_heads=2", "--model.patch_size=2")
DECODER = ("--model.decoder_num_layers=1", "--model.decoder_hidden_dim=8")
DECODER = (*DECODER, "--model.decoder_num_heads=2", "--model.decoder_mlp_dim=16")
SHORT = (
    "--steps=8",
    "--batch_size=16",
    "--log_every=4",
    "--eval_every=8",
    "--optim.warmup_steps=2",
)


def go(recipe, workdir, *overrides):
    """Trains a tiny version of a recipe; returns what it printed."""
    output = io.StringIO()
    config = override(RECIPES[recipe](), [*ENCODER, *SHORT, *overrides])
    train(config, workdir, Console(file=output, width=300))
    return output.getvalue()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a run that was trained on the digits without labels."""
    workdir = tmp_path_factory.mktemp("runs") / "mae"
    go("mae_digits", workdir, *DECODER, "--steps=60", "--eval_every=30")
    return workdir


def test_a_run_has_figures_and_pictures(pretrained):
    entries = read_metrics(pretrained / "metrics.jsonl")
    evaluated = [entry for entry in entries if "eval/psnr" in entry]
    assert [entry["step"] for entry in evaluated] == [30, 60]
    assert {"eval/loss", "eval/psnr", "eval/knn_top1"} <= evaluated[-1].keys()
    assert evaluated[-1]["eval/loss"] < evaluated[0]["eval/loss"]
    losses = [entry["train/loss"] for entry in entries if "train/loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    for step in (30, 60):
        picture = pretrained / "pictures" / str(step) / "reconstructions.png"
        assert picture.stat().st_size > 5_000
    config = json.loads((pretrained / "config.json").read_text())
    assert config["model"]["fields"]["image_size"] == [8, 8]


def test_reconstruction_and_knn_scripts(pretrained, tmp_path, capsys):
    arguments = [f"--workdir={pretrained}", f"--json={tmp_path / 'out.json'}", "--checkpoint=last"]
    last = read_metrics(pretrained / "metrics.jsonl")[-1]
    for batch_size in (128, 100):  # the second does not divide the examples
        assert eval.reconstruction.main([*arguments, f"--batch_size={batch_size}"]) == 0
        figures = json.loads((tmp_path / "out.json").read_text())
        np.testing.assert_allclose(figures["loss"], last["eval/loss"], rtol=1e-4)
        np.testing.assert_allclose(figures["psnr"], last["eval/psnr"], rtol=1e-4)
    assert (pretrained / "reconstructions.png").stat().st_size > 5_000
    assert eval.reconstruction.main([*arguments, "--statistics=visible", "--pictures=2"]) == 0
    assert eval.knn.main([*arguments, "--neighbours=20"]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    # Another batch size changes the last digits of features: two of the 540 votes may change.
    np.testing.assert_allclose(figures["knn_top1"], last["eval/knn_top1"], atol=0.004)
    assert "knn_top1" in capsys.readouterr().out
    assert eval.reconstruction.main([*arguments, "--pictures=0"]) == 2
    assert eval.knn.main([*arguments, "--neighbours=0"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_fine_tuning_starts_from_the_run(pretrained, tmp_path):
    still = ("--optim.learning_rate=0", f"--init={pretrained / 'checkpoints' / '60'}")
    output = go("mae_finetune_digits", tmp_path / "tuned", *still)
    assert "initialised anew: this ViT has its norm after the pooling" in output
    assert "none in pre-training" in output or "params/head/kernel" in output
    _, before = zoo.load(pretrained / "checkpoints" / "60")
    _, after = zoo.load(tmp_path / "tuned")
    for name in ("blocks_0", "patch_embed", "cls_token"):
        jax.tree.map(
            np.testing.assert_array_equal,
            after["params"][name],
            before["params"]["encoder"][name],
        )
    np.testing.assert_array_equal(
        after["params"]["pos_embed"], before["fixed"]["encoder"]["pos_embed"]
    )


def test_a_linear_probe_moves_the_head_alone(pretrained, tmp_path):
    output = go("mae_linear_digits", tmp_path / "probe", f"--init={pretrained}")
    assert "statistics before a new head" in output
    _, start = zoo.load(pretrained)
    _, end = zoo.load(tmp_path / "probe")
    for name in ("blocks_0", "patch_embed", "norm", "cls_token"):
        jax.tree.map(
            np.testing.assert_array_equal, end["params"][name], start["params"]["encoder"][name]
        )
    assert np.abs(end["params"]["head"]["bias"]).max() > 0
    assert np.abs(end["batch_stats"]["head_norm"]["mean"]).max() > 0
    assert eval.knn.main([f"--workdir={tmp_path / 'probe'}"]) == 0  # a classifier also has features


def test_a_script_for_another_kind_of_run(pretrained, capsys):
    assert eval.classification.main([f"--workdir={pretrained}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_masks_are_the_steps_and_the_images_own():
    model = zoo.create("mae_vit_nano_patch4", num_layers=0, decoder_num_layers=0, patch_size=2)
    images = jnp.zeros((4, 8, 8, 3))
    variables = model.init(jax.random.key(0), images)
    task = MaskedAutoencoding()
    seen = {}

    def spy(run, args, kwargs, context):
        output = run(*args, **kwargs)
        if context.method_name == "draw_visible":
            seen["visible"] = np.asarray(output)
        return output

    def masks(step):
        key = jax.random.fold_in(jax.random.key(0), step)
        batch = {"images": images, "valid": jnp.array([True, True, True, False])}
        with nn.intercept_methods(spy):
            losses, _, unchanged = task.compute_loss(model, variables, key, batch)
        assert losses["loss"].weight == 3 * 12  # hidden patches of the valid images
        assert unchanged.keys() == {"fixed"}
        return seen.pop("visible")

    first, again, other = masks(0), masks(0), masks(1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first.sum(axis=1), 4)
    assert len({row.tobytes() for row in np.concatenate([first, other])}) > 6


def test_a_probe_needs_neighbours():
    with pytest.raises(InputError, match="knn_neighbours is -1"):
        MaskedAutoencoding(knn_neighbours=-1)
