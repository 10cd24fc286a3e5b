"""Checkpoints as training scripts write them, and files that are no checkpoints."""

import argparse
import collections
import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from zoo.__main__ import main
from zoo.types import InputError
from zoo.weights import open_checkpoint
from zoo.weights.wrappers import unwrap_torch

NANO = "vit_nano_patch4_32"
TINY = {"image_size": 8, "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 16}


class Settings:
    """A class of a training script, which the zoo cannot import."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Storage:
    """What a pickle of torch refers to."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array, np.float32)


def save_torch(path, content):
    """Writes a file as torch.save does, with each numpy array as a tensor of float32."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def rebuild(*_):
        raise AssertionError("only its name is written")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, storages = rebuild, []

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, Storage):
                return None
            storages.append(obj.array)
            return "storage", torch.FloatStorage, str(len(storages) - 1), "cpu", obj.array.size

        def reducer_override(self, obj):
            if not isinstance(obj, np.ndarray):
                return NotImplemented
            strides = np.empty(obj.shape, np.float32).strides
            elements = tuple(stride // 4 for stride in strides)
            hooks = collections.OrderedDict()
            return rebuild, (Storage(obj), 0, obj.shape, elements, False, hooks)

    data = io.BytesIO()
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(data, 2).dump(content)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data.getvalue())
        for number, array in enumerate(storages):
            file.writestr(f"archive/data/{number}", array.tobytes())
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A tiny ViT of seven classes, its variables, and its tensors in timm's names."""
    model = zoo.create(NANO, num_classes=7, **TINY)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.float32(rng.uniform(0.1, 1, x.shape)), shapes)
    path = tmp_path_factory.mktemp("vit") / "timm.safetensors"
    zoo.save(model, variables, path, "timm")
    return variables, load_file(path)


def check_loads(vit, path):
    """Loads a file as a ViT of seven classes, compares the variables, and gives the report."""
    _, variables, report = zoo.load_with_report(NANO, path, num_classes=7, **TINY)
    jax.tree.map(np.testing.assert_array_equal, variables, vit[0])
    assert not report.reinitialised
    return report


def prefixed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


BESIDE = {
    "best_acc1": np.float32([71.5]),
    "epoch": 3,
    "loss": np.float64(0.25),
    "args": argparse.Namespace(lr=0.1, path=Path("x")),
    "settings": Settings(lr=0.1, inner=Settings(a=[1])),
    "optimizer": {"state": {0: {"exp_avg": np.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    "history": collections.defaultdict(list, a=[1.0]),
    "rng": {"cpu": np.ones(4), "numpy": np.random.default_rng(0)},
}


@pytest.mark.parametrize(
    "wrap",
    {
        "state_dict": lambda sd: {"state_dict": sd, **BESIDE},
        "first": lambda sd: {**BESIDE, "model": sd},
        "nested": lambda sd: {**BESIDE, "model": {"state_dict": {"module": sd}}},
        "own key": lambda sd: {**BESIDE, "my_network": sd},
        "ema": lambda sd: {**BESIDE, "ema": {"step": np.ones(1)}, "net": sd},
        "teacher": lambda sd: {"student": {k: v + 1 for k, v in sd.items()}, "teacher": sd},
        "flat": lambda sd: {**sd, "epoch": 3, "args": Settings(a=1)},
        "lightning": lambda sd: {"state_dict": prefixed(sd, "model."), "callbacks": BESIDE},
    }.items(),
    ids=lambda item: item[0],
)
def test_state_dicts_in_training_scripts_files(tmp_path, vit, wrap):
    check_loads(vit, save_torch(tmp_path / "x.pth", wrap[1](vit[1])))


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."),
        *("model.", "backbone.", "net.", "student.", "teacher.", "teacher.backbone."),
        *("model._orig_mod.module.", "_orig_mod.model.net.", "_fsdp_wrapped_module.encoder."),
    ],
)
def test_prefixes_of_wrappers(tmp_path, vit, prefix):
    save_file(prefixed(vit[1], prefix), tmp_path / "x")
    check_loads(vit, tmp_path / "x")


def test_wrappers_inside_names_are_removed():
    names = {"blocks.0._checkpoint_wrapped_module.fc.weight": 1, "_orig_mod.fc._orig_mod.bias": 2}
    assert unwrap_torch(names) == {"blocks.0.fc.weight": 1, "fc.bias": 2}
    clash = {"_orig_mod.fc.bias": 1, "fc.bias": 2}
    assert unwrap_torch(clash) == clash


def test_what_is_beside_a_wrapped_model_is_reported(tmp_path, vit):
    tensors = prefixed(vit[1], "model.") | {"loss.weight": np.ones(7), "n_averaged": np.ones(())}
    save_torch(tmp_path / "x.ckpt", {"state_dict": tensors})
    report = check_loads(vit, tmp_path / "x.ckpt")
    assert set(report.dropped) == {"loss.weight", "n_averaged"}
    assert set(report.dropped.values()) == {"beside the model, whose names begin with 'model.'"}


def test_the_average_of_a_model_and_its_copy(tmp_path, vit):
    student = {name: tensor + 1 for name, tensor in vit[1].items()}
    save_file(student | prefixed(vit[1], "model_ema."), tmp_path / "copies")
    assert len(check_loads(vit, tmp_path / "copies").dropped) == len(student)


def test_a_head_beside_its_backbone_is_used(tmp_path, vit):
    body = {name: x for name, x in vit[1].items() if not name.startswith("head.")}
    head = {name: x for name, x in vit[1].items() if name.startswith("head.")}
    save_file(prefixed(body, "backbone.") | head, tmp_path / "x")
    assert not check_loads(vit, tmp_path / "x").dropped


def test_a_tensor_that_is_not_explained_is_still_an_error(tmp_path, vit):
    extra = {"blocks.9.extra": np.ones(2, np.float32)}
    for tensors in (vit[1] | extra, prefixed(vit[1] | extra, "model.")):
        save_file(tensors, tmp_path / "x")
        with pytest.raises(InputError, match=r"the model lacks blocks\.9\.extra"):
            zoo.load(NANO, tmp_path / "x", num_classes=7, **TINY)


def test_an_object_in_the_place_of_a_parameter_is_an_error(tmp_path, vit):
    tensors = {**vit[1], "blocks.0.norm1.weight": Settings(a=1)}
    path = save_torch(tmp_path / "x.pth", {"state_dict": tensors})
    with pytest.raises(InputError, match=r"x\.pth: blocks\.0\.norm1\.weight is not a tensor but "):
        zoo.load(NANO, path, num_classes=7, **TINY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Settings(a=1), r"it holds an object, not a state dict.* asks for .*Settings, which is"),
        ({"model": Settings(a=1)}, r"'model' is an object, not a state dict: save its state_dict"),
        ((1, 2), "it holds a tuple, not a state dict"),
        ({"epoch": 3, "lr": 0.1}, "no state dict under epoch, lr"),
        ({}, "no state dict under no key"),
        ({k: {"fc.bias": np.ones(2)} for k in ("a", "b")}, "several state dicts, under a, b"),
    ],
)
def test_files_without_one_state_dict(tmp_path, content, message):
    path = save_torch(tmp_path / "x.pth", content)
    with pytest.raises(InputError, match=rf"x\.pth: not a readable PyTorch file: {message}") as e:
        open_checkpoint(path)
    assert "\n" not in str(e.value)


class Attack:
    """Unpickling it calls a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:], {"a": 1}, iter([1]), iter([("k", 2)])


def test_no_code_of_a_file_that_loads_runs(tmp_path, vit):
    target = tmp_path / "ran"
    attacks = [
        Attack(os.system, f"touch {target}"),
        Attack(Path.touch, target),
        Attack(exec, "1/0"),
    ]
    path = save_torch(
        tmp_path / "x.pth", {"state_dict": vit[1], "attacks": attacks, "k": {3: attacks}}
    )
    check_loads(vit, path)
    assert not target.exists()


def test_too_many_names_are_refused(tmp_path):
    opcodes = b"(" + b"".join(b"cm\nn%d\n" % i for i in range(1001)) + b"l."
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
        file.writestr("archive/data.pkl", opcodes)
    with pytest.raises(InputError, match="asks for more than 1000 names"):
        open_checkpoint(tmp_path / "x.pth")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
NOT_CHECKPOINTS = {
    "pointer": (LFS, "a pointer of git LFS, not the file itself: run `git lfs pull`"),
    "page": (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "a web page: the download gave"),
    "page with BOM": (b"\xef\xbb\xbf<HTML lang=en>", "a web page"),
    "error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "empty": (b"", r"it is empty \(0 bytes\)"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "compressed with gzip"),
    "flax": (b"\x81\xa6params\x82" + bytes(50), "msgpack"),
    "array": (b"\x93NUMPY\x01\x00" + bytes(50), "a single array of numpy"),
    "json": (b'{"abc": {"a": 1}}', "neither safetensors, npz, a PyTorch file nor darknet's"),
}


@pytest.mark.parametrize("kind", NOT_CHECKPOINTS)
def test_files_that_are_no_checkpoints(tmp_path, capsys, kind):
    data, message = NOT_CHECKPOINTS[kind]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    for place in (path, tmp_path):
        with pytest.raises(InputError, match=rf"model\.safetensors: not a checkpoint: {message}"):
            zoo.load(NANO, place)
    assert main(["inspect", str(path)]) == 2
    error = capsys.readouterr().err
    assert "not a checkpoint" in error and error.count("\n") == 1


def test_a_file_that_is_cut_short_is_called_so(tmp_path, vit):
    whole = save_torch(tmp_path / "x.pth", {"state_dict": vit[1]}).read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"x\.pth: cut short: a zip archive"):
        open_checkpoint(tmp_path / "x.pth")
    legacy = (Path(__file__).parents[2] / "golden" / "torch_legacy.pth").read_bytes()
    for share in (0.1, 0.6, 0.99):
        (tmp_path / "x.pth").write_bytes(legacy[: int(len(legacy) * share)])
        with pytest.raises(InputError, match=r"x\.pth: not a readable PyTorch file .*cut short"):
            open_checkpoint(tmp_path / "x.pth")


def test_a_zip_archive_with_a_wrong_length_is_cut_short(tmp_path, vit):
    path = save_torch(tmp_path / "x.pth", {"state_dict": vit[1]})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:  # the length of the last storage's name
        start = max(info.header_offset for info in archive.infolist() if "data/" in info.filename)
    content[start + 26 : start + 28] = b"\xff\xff"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pth: .*storage \d+ is cut short"):
        open_checkpoint(path)


def test_only_the_head_differs(tmp_path, vit):
    save_file(vit[1], tmp_path / "x")
    with pytest.raises(InputError, match="only the head differs: give num_classes=N"):
        zoo.load(NANO, tmp_path / "x", **TINY)
    body = {name: x for name, x in vit[1].items() if not name.startswith("head.")}
    save_file(body, tmp_path / "x")
    with pytest.raises(InputError, match="only the head is missing: num_classes=N makes a new"):
        zoo.load(NANO, tmp_path / "x", **TINY)
    save_file({k: x for k, x in body.items() if k != "norm.bias"}, tmp_path / "x")
    with pytest.raises(InputError) as error:
        zoo.load(NANO, tmp_path / "x", **TINY)
    assert "only the head" not in str(error.value)


@pytest.mark.parametrize(
    "suffix", ["pth", "pt", "bin", "ckpt", "h5", "msgpack", "npz", "PTH", "onnx"]
)
def test_other_formats_are_not_written(tmp_path, vit, suffix, capsys):
    model = zoo.create(NANO, num_classes=7, **TINY)
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(InputError, match=rf"x\.{suffix}: the file is written as safetensors: give"):
        zoo.save(model, vit[0], path)
    assert main(["convert", "nothing.pth", str(path), f"--model={NANO}"]) == 2
    assert "ends in .safetensors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_suffixes_that_are_written(tmp_path, vit):
    model = zoo.create(NANO, num_classes=7, **TINY)
    for name in ("x", "x.safetensors", "x_v1.0"):
        zoo.save(model, vit[0], tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, zoo.load(tmp_path / name)[1], vit[0])
    with pytest.raises(InputError, match=r"there is no folder .*nowhere to write it to"):
        zoo.save(model, vit[0], tmp_path / "nowhere" / "x.safetensors")
    with pytest.raises(InputError, match="it is a folder"):
        zoo.save(model, vit[0], tmp_path)


def first_line(capsys, path):
    assert main(["inspect", str(path)]) == 0
    return capsys.readouterr().out.splitlines()[0]


def test_inspecting_a_file_of_a_later_version(tmp_path, capsys):
    for entry in (
        '{"name": "vit_pico", "fields": {}}',
        f'{{"name": "{NANO}", "fields": {{"x": 1}}}}',
    ):
        metadata = {"jax-vision-zoo": entry}
        save_file({"a": np.zeros(1, np.float32)}, tmp_path / "x.safetensors", metadata=metadata)
        line = first_line(capsys, tmp_path / "x.safetensors")
        assert "which does not load: " in line and ("vit_pico" in line or "no field 'x'" in line)


def test_inspect_begins_with_the_answer(tmp_path, capsys):
    model = zoo.create(NANO, num_classes=5)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    path = tmp_path / "x.safetensors"
    zoo.save(model, variables, path, "timm")
    described = f"describes itself as {NANO}, num_classes=5: zoo.load('{path}')"
    assert first_line(capsys, path) == described
    tensors = load_file(path)
    save_file(prefixed(tensors, "model.") | {"loss.weight": np.ones(5, np.float32)}, path)
    assert first_line(capsys, path) == (
        f"looks like {NANO} (timm), with another number of classes, beside 1 tensors of something"
        f" else: zoo.load('{NANO}', '{path}', num_classes=5)"
    )
    exec(first_line(capsys, path).partition(": ")[2], {"zoo": zoo})
    body = {name: x for name, x in tensors.items() if not name.startswith("head.")}
    save_file(body, path)
    assert f"looks like {NANO} (timm), without a head: zoo.load(" in first_line(capsys, path)
    del body["blocks.1.norm1.bias"]
    save_file(body, path)
    nearest = first_line(capsys, path)
    assert f"looks like no model of the zoo; the nearest is {NANO}: " in nearest
    assert "the file lacks params/blocks_1/norm1/bias (blocks.1.norm1.bias)" in nearest
