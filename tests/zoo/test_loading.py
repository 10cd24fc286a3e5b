import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import zoo
from zoo.__main__ import main
from zoo.types import InputError
from zoo.weights import load_report

NANO = "vit_nano_patch4_32"
TINY = {"image_size": 8, "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 16}


def drawn(model, size=(8, 8)):
    """Variables without zeros, also in the heads."""
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *size, 3)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.float32(rng.uniform(0.1, 1, x.shape)), variables)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def saved(tmp_path):
    """A tiny ViT of seven classes, and its file in timm's layout without our metadata."""
    model = zoo.create(NANO, num_classes=7, **TINY)
    variables = drawn(model)
    zoo.save(model, variables, tmp_path / "described.safetensors", source="timm")
    with safe_open(tmp_path / "described.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors, tmp_path / "timm.safetensors", metadata={"format": "pt"})
    return model, variables, tmp_path / "timm.safetensors"


@pytest.mark.parametrize("source", ["zoo", "timm", "huggingface"])
@pytest.mark.parametrize("name", [NANO, "resnet_nano"])
def test_file_knows_its_model(tmp_path, name, source):
    fields = {"image_size": (8, 16), "dtype": jnp.bfloat16} if name == NANO else {"drop_path": 0.1}
    model = zoo.create(name, num_classes=3, **fields)
    variables = drawn(model, (8, 16))
    path = tmp_path / "model.safetensors"
    zoo.save(model, variables, path, source)
    again, loaded = zoo.load(path)
    assert again == model
    assert_equal(variables, loaded)
    wide, _ = zoo.load(path, drop_path=0.5)
    assert (wide.drop_path, wide.num_classes) == (0.5, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_run_knows_its_model(tmp_path):
    model = zoo.create("resnet_nano", num_classes=3)
    variables = drawn(model, (32, 32))
    entry = {"name": "resnet_nano", "fields": {"num_classes": 3}}
    (tmp_path / "config.json").write_text(json.dumps({"model": entry}))
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["score"])
    with ocp.CheckpointManager(tmp_path / "checkpoints", options=options) as manager:
        item = ocp.args.StandardSave(variables)
        manager.save(4, args=ocp.args.Composite(variables=item), metrics={"score": 0.5})
    again, loaded = zoo.load(str(tmp_path))
    assert again == model
    assert_equal(variables, loaded)
    folder = tmp_path / "checkpoints" / "4" / "variables"
    assert_equal(zoo.load("resnet_nano", folder, num_classes=3)[1], variables)
    with pytest.raises(InputError, match=r"variables as zoo: the model lacks batch_stats/"):
        zoo.load("resnet_nano", folder, num_classes=3, norm="group", stage_dims=(32,) * 4)


def test_positions_are_resized_and_reported(saved):
    _, variables, path = saved
    model, loaded, report = zoo.load_with_report(
        NANO, path, **{**TINY, "image_size": (16, 12)}, num_classes=7
    )
    assert loaded["params"]["pos_embed"].shape == (4, 3, 8)
    assert report.resized == {"params/pos_embed": "[2, 2, 8] in the file, [4, 3, 8] in the model"}
    old = variables["params"]["pos_embed"]
    expected = jax.image.resize(old, (4, 3, 8), "bicubic", antialias=True)
    np.testing.assert_allclose(loaded["params"]["pos_embed"], expected, atol=1e-6)
    rest = {k: v for k, v in loaded["params"].items() if k != "pos_embed"}
    assert_equal(rest, {k: variables["params"][k] for k in rest})
    assert model.apply(loaded, jnp.ones((1, 16, 12, 3))).shape == (1, 7)


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize(("file", "model"), [((6, 6), (4, 9)), ((4, 9), (6, 6))])
def test_grids_of_equally_many_positions(tmp_path, file, model, described):
    (rows, columns), fields = file, {**TINY, "num_classes": 3}
    size = (4 * rows, 4 * columns)
    written = zoo.create(NANO, **{**fields, "image_size": size})
    variables = drawn(written, size)
    path = tmp_path / "model.safetensors"
    zoo.save(written, variables, path, "timm")
    if described:
        assert_equal(zoo.load(path)[1], variables)
    else:  # 36 positions in a file of another program form a square
        with safe_open(path, "np") as opened:
            save_file({name: opened.get_tensor(name) for name in opened.keys()}, path)
        rows, columns = 6, 6
    fields["image_size"] = (4 * model[0], 4 * model[1])
    _, loaded, report = zoo.load_with_report(NANO, path, **fields)
    found = loaded["params"]["pos_embed"]
    old = variables["params"]["pos_embed"].reshape(rows, columns, 8)
    assert bool(report.resized) == ((rows, columns) != model)
    expected = jax.image.resize(old, (*model, 8), "bicubic", antialias=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("text", ["{", "[]", "3", "{}", '{"name": 3, "fields": {}}', "[" * 9999])
def test_damaged_description(tmp_path, text):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(1)}, path, metadata={"jax-vision-zoo": text})
    with pytest.raises(InputError, match=r"x\.safetensors: its metadata 'jax-vision-zoo' lacks"):
        zoo.load(path)


def test_convert_makes_no_new_head(saved, tmp_path, capsys):
    _, _, path = saved
    zoo.save(drawn_nano := zoo.create(NANO, num_classes=5), drawn(drawn_nano, (32, 32)), path)
    arguments = ["convert", str(path), str(tmp_path / "out"), f"--model={NANO}"]
    assert main([*arguments, "--num-classes=3"]) == 2
    assert "--num-classes=3 would make a new head" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--num-classes=5"]) == 0
    with pytest.raises(SystemExit):
        main([*arguments, "--num-classes=-1"])


@pytest.mark.parametrize("out", ["missing/out", "."])
def test_convert_to_no_file(saved, tmp_path, capsys, out):
    arguments = ["convert", str(saved[2]), str(tmp_path / out), f"--model={NANO}"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "folder" in error and error.count("\n") == 1


def test_a_file_that_cannot_be_written(saved, tmp_path):
    model, variables, _ = saved
    with pytest.raises(InputError, match=r"cannot be written: .*File name too long"):
        zoo.save(model, variables, tmp_path / f"{'x' * 300}.safetensors")


def test_head_is_new_only_where_it_was_asked_for(saved):
    _, variables, path = saved
    with pytest.raises(InputError, match=r"shapes differ in params/head/kernel .*\[8, 1000\]"):
        zoo.load(NANO, path, **TINY)
    _, loaded = zoo.load(NANO, path, **TINY, num_classes=7)
    assert_equal(loaded, variables)
    _, loaded, report = zoo.load_with_report(NANO, path, **TINY, num_classes=4)
    assert set(report.reinitialised) == {"params/head/kernel", "params/head/bias"}
    assert loaded["params"]["head"]["kernel"].shape == (8, 4)
    np.testing.assert_array_equal(loaded["params"]["head"]["kernel"], 0)
    _, loaded, report = zoo.load_with_report(NANO, path, **TINY, num_classes=0)
    assert "head" not in loaded["params"]
    assert set(report.dropped) == {"head.weight", "head.bias"}


def test_missing_head(tmp_path):
    model = zoo.create(NANO, num_classes=0, **TINY)
    variables = drawn(model)
    zoo.save(model, variables, tmp_path / "features.safetensors", "huggingface")
    path = tmp_path / "features.safetensors"
    with pytest.raises(InputError, match=r"lacks params/head/kernel \(classifier.weight\)"):
        zoo.load(NANO, path, **TINY)
    _, _, report = zoo.load_with_report(NANO, path, **TINY, num_classes=3)
    assert set(report.reinitialised) == {"params/head/kernel", "params/head/bias"}


def test_report_does_not_raise(saved):
    _, _, path = saved
    report = load_report(zoo.create(NANO, **TINY), path)
    assert set(report.mismatched) == {"params/head/kernel", "params/head/bias"}
    assert (report.source, report.problems) == ("timm", 2)
    assert len(report.loaded) == 23
    assert "mismatched: params/head/bias: [7] in the file, [1000] in the model" in str(report)


@pytest.mark.parametrize("stored", [jnp.bfloat16, jnp.float16])
def test_dtype_is_kept_or_cast(tmp_path, stored):
    model = zoo.create(NANO, **TINY)
    variables = jax.tree.map(lambda x: x.astype(stored), drawn(model))
    zoo.save(model, variables, tmp_path / "half.safetensors")
    path = tmp_path / "half.safetensors"
    kept = zoo.load(path, param_dtype=None)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype(stored)}
    assert_equal(kept, variables)
    cast = zoo.load(path)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(cast)} == {jnp.dtype(jnp.float32)}
    assert_equal(cast, variables)


def test_loaded_variables_outlive_the_file(saved):
    _, variables, path = saved
    _, loaded = zoo.load(NANO, path, **TINY, num_classes=7)
    path.write_bytes(bytes(path.stat().st_size))
    assert_equal(loaded, variables)


def test_bad_input(saved, tmp_path):
    _, _, path = saved
    with pytest.raises(InputError, match="it does not say which model it is"):
        zoo.load(path)
    with pytest.raises(InputError, match="load needs a checkpoint's path as well"):
        zoo.load(NANO)
    with pytest.raises(InputError, match=r"none\.pth: no such file"):
        zoo.load(NANO, tmp_path / "none.pth")
    with pytest.raises(InputError, match="no model 'vit_nan'"):
        zoo.load("vit_nan", path)
    with pytest.raises(TypeError, match="no field 'classes'"):
        zoo.load(NANO, path, classes=3)
    with pytest.raises(InputError, match="no source 'torch' for ViT; there are zoo, timm"):
        zoo.save(*saved[:2], tmp_path / "x", source="torch")


def test_command_list(capsys):
    assert main(["list", "mixer_b*"]) == 0
    assert capsys.readouterr().out.split() == ["mixer_b16_224", "mixer_b32_224"]
    assert main(["list", "nothing"]) == 2


def test_command_inspect(tmp_path, capsys):
    model = zoo.create("mixer_nano_patch4_32", num_classes=5)
    zoo.save(model, drawn(model, (32, 32)), tmp_path / "x.safetensors", source="timm")
    assert main(["inspect", str(tmp_path / "x.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "blocks.3.mlp_tokens.fc1.weight" in out
    assert "looks like mixer_nano_patch4_32 (timm), with another number of classes" in out
    save_file({"x": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    assert main(["inspect", str(tmp_path / "other.safetensors")]) == 0
    assert "looks like no model of the zoo" in capsys.readouterr().out


def test_command_convert(saved, tmp_path, capsys):
    model = zoo.create("resnet_nano")
    variables = drawn(model, (32, 32))
    zoo.save(model, variables, tmp_path / "a.safetensors", source="timm")
    out = tmp_path / "b.safetensors"
    assert main(["convert", str(tmp_path / "a.safetensors"), str(out), "--model=resnet_nano"]) == 0
    assert "leaves loaded" in capsys.readouterr().out
    assert_equal(zoo.load(out)[1], variables)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "none.pth"], "none.pth: no such file or folder"),
        (["convert", "none.pth", "out", "--model=resnet_nano"], "none.pth: no such file"),
        (["convert", __file__, "out", "--model=resnet_nano"], "not a checkpoint"),
        (["convert", __file__, "out", "--model=resnet"], "not a checkpoint"),
    ],
)
def test_command_with_bad_input(capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("norm", "bn", "norm 'bn' is not one of batch, frozen, group"),
        ("block", "botleneck", "block 'botleneck' is not one of basic, bottleneck"),
    ],
)
def test_resnet_of_unknown_parts(monkeypatch, field, value, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    model = zoo.create("resnet_nano").clone(**{field: value})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
