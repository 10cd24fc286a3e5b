import json

import jax
import jax.numpy as jnp
import pytest

import zoo
from tests.zoo.models.drawn import shallow, speed_of
from train import measure, speed
from train.config import override
from train.flops import count_flops
from train.model import build, with_preprocessing
from train.optim import make_optimizer
from train.step import make_init, make_step
from train.synthetic import draw_batch, synthetic_config
from zoo.registry import FAMILIES, MODELS, layers_of

SMALL = [next(name for name in family.variants if "nano" in name) for family in FAMILIES]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(measure, "_REPEAT_SECONDS", 0.0)


@pytest.mark.parametrize("name", [pytest.param(n, marks=speed_of(MODELS[n])) for n in SMALL])
def test_a_step_of_each_family_is_traced(name):
    config = with_preprocessing(synthetic_config(name, None, 2, pixels=1))
    config = override(config, [f"--model.{field}=1" for field in shallow(name)])
    batch = draw_batch(config, zoo.create(name, **config.model.fields))
    model, shapes = build(config, batch)
    optimizer = make_optimizer(config.optim, config.steps, shapes["params"], layers_of(model))
    state = jax.eval_shape(make_init(config, model, optimizer), batch)
    after, means = jax.eval_shape(make_step(config, model, optimizer), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert means


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if i else []) for i, n in enumerate(SMALL)]
)
def test_a_model_of_each_family(name):
    config = synthetic_config(name, None, 2, pixels=1)
    layers = [f"--model.{field}=1" for field in shallow(name)]
    # As many regions in training as without proposals, so that the numbers can be compared.
    regions = ['--model.roi_sampling={"num": 128}'] if MODELS[name].takes_proposals else []
    config = override(config, ["--model.dtype=float32", *layers, *regions])
    inference, training = measure.measure_model(config, 1, peak=1e12)
    assert (inference.work, training.work) == ("inference", "training")
    for row in (inference, training):
        assert (row.model, row.batch_size) == (name, 2)
        assert row.examples_per_second > 0 and row.compile_seconds > 0
        rate = row.flops_per_example * row.examples_per_second
        assert row.share_of_peak == pytest.approx(rate / 1e12)
    assert 2 < training.flops_per_example / inference.flops_per_example < 3.1
    assert training.memory_bytes > inference.memory_bytes


def test_batches_have_as_many_examples_as_fit():
    sizes = {
        name: synthetic_config(name, size, None, 8 * 224**2).batch_size
        for name, size in (
            ("vit_base_patch16_224", None),
            ("vit_base_patch32_224", (448, 448)),
            ("detr_resnet50", None),
            ("transformer_base", None),
        )
    }
    assert list(sizes.values()) == [8, 2, 1, 16]


def test_products_and_convolutions_are_counted():
    x, w = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))

    def convolve(w, x=x):
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=dims).sum()

    once = 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert count_flops(convolve, w) == once
    assert count_flops(jax.value_and_grad(convolve, argnums=(0, 1)), w, x) == 3 * once

    def layers(x, ws):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, ws)[0]

    args = jnp.ones((4, 8)), jnp.ones((3, 8, 8))
    assert count_flops(layers, *args) == 3 * 2 * 4 * 8 * 8
    assert count_flops(lambda n: jax.lax.cond(n > 0, layers, lambda x, _: x, *args), 1) > 0


def test_the_count_is_that_of_xla_and_of_scanned_layers_the_same():
    model = zoo.create("vit_nano_patch4_32")
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    found = count_flops(model.apply, variables, images)
    # XLA also counts additions and similar operations; such a narrow model has many of them.
    by_xla = jax.jit(model.apply).lower(variables, images).cost_analysis()["flops"]
    assert found == pytest.approx(by_xla, rel=0.2) and found < by_xla
    scanned = model.clone(scan_layers=True)
    variables = jax.eval_shape(scanned.init, jax.random.key(0), images)
    assert count_flops(scanned.apply, variables, images) == found


def test_the_command_line_writes_a_table_and_every_figure(tmp_path, capsys):
    path = tmp_path / "speed.json"
    arguments = ["--models=vit_nano_*", "--image_size=8", "--batch_size=2", "--repeats=1"]
    assert speed.main([*arguments, "--model.num_layers=1", f"--json={path}"]) == 0
    output = capsys.readouterr().out
    assert "2 x 8 x 8" in output and "peak of float32" in output
    figures = json.loads(path.read_text())
    assert figures["peak_flops_per_second"]["float32"] > 0
    assert [row["work"] for row in figures["models"]] == ["inference", "training"]


def test_a_model_that_fails_does_not_lose_the_figures_of_the_others(tmp_path, capsys):
    path = tmp_path / "speed.json"
    names = "--models=transformer_nano,vit_nano_patch4_32,unet"
    arguments = ["--image_size=8", "--batch_size=2", "--repeats=1", f"--json={path}"]
    assert speed.main([names, *arguments]) == 2
    output, error = capsys.readouterr()
    assert "2 x 8 x 8" in output and "unet" not in output
    first, second = error.splitlines()
    assert first.startswith("error: ") and "transformer_nano takes no images" in first
    assert second.startswith("error: unet: ")
    figures = json.loads(path.read_text())
    assert {row["model"] for row in figures["models"]} == {"vit_nano_patch4_32"}
    assert list(figures["errors"]) == ["transformer_nano", "unet"]


@pytest.mark.slow
def test_padding_beyond_the_queries_is_no_target():
    config = synthetic_config("detr_nano", None, 2, pixels=1)
    small = [*(f"--model.{field}=1" for field in ("num_encoder_layers", "num_decoder_layers"))]
    fields = ["--model.num_queries=10", "--data.max_objects=30", "--model.dtype=float32"]
    _, training = measure.measure_model(override(config, [*small, *fields]), 1, peak=1e12)
    assert training.examples_per_second > 0


def test_a_loader_is_measured(capsys):
    assert speed.main(["--loader=vit_digits", "--batch_size=4", "--data.threads=1"]) == 0
    assert "examples/s in batches of 4, read by 1 threads" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=vit_bass_patch16"], "no model 'vit_bass_patch16'; similar are"),
        (["--models=vit_nano_patch4_32", "--loader=vit_digits"], "give either --models"),
        (["--repeats=3"], "give either --models"),
        (["--loader=vit"], "no recipe 'vit'"),
        (["--loader=vit_digits", "--dtype=bfloat16"], "--dtype are of --models"),
        (["--models=vit_nano_patch4_32", "--repeats=0"], "--repeats is 0"),
        (["--models=vit_nano_patch4_32", "--batch_size=few"], "'few' is not an integer"),
        (["--models=vit_nano_patch4_32", "--dtype=float"], "--dtype: 'float' is not"),
        (["--models=vit_nano_patch4_32", "--image_size=30"], "does not divide into patches"),
        (["--models=vit_nano_patch4_32", "--model.colour=1"], "no field 'colour'"),
        (["--models=vit_nano_patch4_32", "--model.name=unet_nano"], "give it to --models"),
        (["--models=transformer_nano", "--image_size=32"], "transformer_nano takes no images"),
        (["--models=unet", "--image_size=64", "--batch_size=1"], "sides of this U-Net"),
        (["vit_nano_patch4_32"], "give either --models"),
        (["--models=vit_nano_patch4_32", "fast"], "'fast' is not of the form"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(speed, "measured_peak", lambda dtype, repeats: 1e12)
    assert speed.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
