import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.types import InputError
from zoo.weights import open_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"
RNG = np.random.default_rng(0)


@pytest.fixture
def tensors():
    return {
        "a": RNG.normal(size=(3, 4)).astype(np.float32),
        "b.c": np.arange(5, dtype=np.int64),
        "half": np.float16([1.5, -2]),
        "brain": np.array([1.5, -2], ml_dtypes.bfloat16),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(7, np.float32),
    }


def assert_same(checkpoint, tensors):
    assert set(checkpoint) == set(tensors)
    for name, tensor in tensors.items():
        assert checkpoint[name].dtype == tensor.dtype
        np.testing.assert_array_equal(checkpoint[name], tensor)


def test_safetensors(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    checkpoint = open_checkpoint(path)
    assert_same(checkpoint, tensors)
    assert (checkpoint.format, checkpoint.metadata) == ("safetensors", {"format": "pt"})
    assert isinstance(checkpoint["a"], np.memmap)


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, prefix, save):
    tensors = {"a/b": np.float32([1, 2]), "c": np.float16([[3]])}
    wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
    more = {"opt/state/count": np.int32(1)} if prefix else {}
    save(tmp_path / "x.npz", **wrapped, **more)
    assert_same(open_checkpoint(tmp_path / "x.npz"), tensors)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_torch(kind):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "float32": base,
        "transposed": base.T,
        "row": base[2],
        "strided": base[::2, 1::2],
        "bfloat16": base.astype(ml_dtypes.bfloat16),
        "float16": base.astype(np.float16),
        "int64": np.int64(3),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.ones(2, np.float32),
    }
    checkpoint = open_checkpoint(GOLDEN / f"torch_{kind}.pth")
    assert checkpoint.format == "torch"
    assert_same(checkpoint, expected)


def test_shards(tmp_path, tensors):
    names = sorted(tensors)
    save_file({n: tensors[n] for n in names[:2]}, tmp_path / "one.safetensors")
    save_file({n: tensors[n] for n in names[2:]}, tmp_path / "two.safetensors")
    shards = {n: "one.safetensors" if n in names[:2] else "two.safetensors" for n in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert_same(open_checkpoint(index), tensors)
    assert_same(open_checkpoint(tmp_path), tensors)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(InputError, match=r"index.json: no shard 'two.safetensors' beside it"):
        open_checkpoint(index)
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(InputError, match=r"no shard '\.\./outside"):
        open_checkpoint(index)


class Evil:
    """An object that is pickled as a function call."""

    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


def evil_files(tmp_path, payload):
    """The payload as a bare pickle, in a legacy file and in a zip archive."""
    bare, legacy, archive = (tmp_path / f"{n}.pth" for n in ("bare", "legacy", "zip"))
    bare.write_bytes(pickle.dumps(payload, 2))
    parts = [0x1950A86A20F9469CFC6C, 1001, {}, payload, []]
    legacy.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(payload, 2))
    return bare, legacy, archive


@pytest.mark.parametrize("call", [os.system, eval, subprocess.Popen, getattr, Path.touch])
def test_nothing_in_a_pickle_runs(tmp_path, call):
    target = tmp_path / "ran"
    arguments = {
        os.system: (f"touch {target}",),
        eval: (f"open({str(target)!r}, 'w')",),
        subprocess.Popen: (["touch", str(target)],),
        getattr: ("", "join"),
        Path.touch: (target,),
    }
    for path in evil_files(tmp_path, {"model": Evil(call, *arguments[call])}):
        with pytest.raises(InputError, match=rf"{path.name}: .*, which is not loaded"):
            open_checkpoint(path)
    assert not target.exists()


def test_refusal_names_the_call(tmp_path):
    path, *_ = evil_files(tmp_path, Evil(os.system, "true"))
    with pytest.raises(InputError, match=rf"it asks for {os.system.__module__}.system, which is"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"ccollections\nOrderedDict.__init__.__globals__\n.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        b"c__builtin__\ngetattr\n.",
        b"\x82\x01.",  # EXT1
    ],
)
def test_no_opcode_imports_anything_else(tmp_path, opcodes):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", opcodes)
    with pytest.raises(InputError, match=r"x\.pth: not a readable PyTorch file"):
        open_checkpoint(path)


def forged(tmp_path, offset, shape, strides):
    """A zip file with a storage of four numbers, and a tensor with the given view of it."""
    arguments = b"".join(
        b"(" + b"".join(b"I%d\n" % n for n in numbers) + b"t" for numbers in (shape, strides)
    )
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    data = b"(dS'x'\nctorch._utils\n_rebuild_tensor_v2\n("
    data += storage + b"I%d\n" % offset + arguments + b"I00\nNtRs."
    path = tmp_path / "forged.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    return path


def test_tensor_cannot_reach_beyond_its_storage(tmp_path):
    good = open_checkpoint(forged(tmp_path, 1, (3,), (1,)))["x"]
    np.testing.assert_array_equal(good, [1, 2, 3])
    for claim in [
        (2, (3,), (1,)),
        (0, (2, 3), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (5,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (0, 2**40, 2**40), (0, 0, 0)),
        (0, (0, 2**64), (0, 0)),
        (0, (1,) * 65, (1,) * 65),
    ]:
        with pytest.raises(InputError, match="not a readable PyTorch file: a tensor"):
            open_checkpoint(forged(tmp_path, *claim))


@pytest.mark.parametrize(
    "nested",
    [
        b")" + b"\x85" * 10**6,  # TUPLE1
        b"(" * 10**5 + b"t" * 10**5,  # TUPLE
        b")" + b"\x85q\x010h\x01" * 10**5,  # TUPLE1, BINPUT, POP, BINGET
        b")" + b"2\x86" * 100 + b"2\x87" * 10,  # DUP, TUPLE2; TUPLE3 has too few
        b")\x940" + b"h\x00\x85" * 3 + b"\x85" * 101,
    ],
)
def test_deep_tuples_as_keys(tmp_path, nested):
    opcodes = b"\x80\x02}" + nested + b"Ns."
    bare, archive, deflated = (tmp_path / f"{n}.pth" for n in ("bare", "zip", "deflated"))
    bare.write_bytes(opcodes)
    for path, kind in [(archive, zipfile.ZIP_STORED), (deflated, zipfile.ZIP_DEFLATED)]:
        with zipfile.ZipFile(path, "w", kind) as file:
            file.writestr("archive/data.pkl", opcodes)
    for path in (bare, archive, deflated):
        with pytest.raises(InputError, match=r"not a readable PyTorch file"):
            open_checkpoint(path)


def test_memo_is_no_larger_than_the_pickle(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(InputError, match="an entry 2147483647 of the memo"):
        open_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "name", ["torch\nSize", "torch._utils\n_rebuild_tensor_v2", "torch._utils\n_rebuild_parameter"]
)
@pytest.mark.parametrize("state", [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x01\x00\x00\x00aK\x01s\x86"])
def test_no_pickle_writes_to_a_stand_in(tmp_path, name, state):
    (tmp_path / "x.pth").write_bytes(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    with pytest.raises(InputError, match=r"object has no attribute"):
        open_checkpoint(tmp_path / "x.pth")


def cut(source, path, share):
    data = Path(source).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth", "safetensors", "npz"])
def test_cut_short(tmp_path, tensors, kind, share):
    if kind == "safetensors":
        save_file({"a": np.zeros((50, 50), np.float32), "b": np.zeros(9)}, tmp_path / "full")
        source = tmp_path / "full"
    else:
        source = GOLDEN / ("mlp_mixer_timm.npz" if kind == "npz" else f"torch_{kind}")
    path = cut(source, tmp_path / f"cut.{kind}", share)
    with pytest.raises(InputError, match=r"cut\.") as error:
        open_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "hello", "this is a text file\n" * 20, "<!DOCTYPE html>\n"])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.npz", "x.bin"])
def test_text_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}: not a checkpoint"):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        b'{"a": [',
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"a": 3}}',
        b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [0, 9223372036854775808], "data_offsets": [0, 0]}}',
        b'{"a": ' + b"[" * 100_000,
    ],
)
def test_broken_safetensors_header(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match="not a safetensors header"):
        open_checkpoint(path)


def test_no_file_and_empty_folder(tmp_path):
    with pytest.raises(InputError, match="nothing: no such file or folder"):
        open_checkpoint(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no checkpoint in this folder.*model\.safetensors"):
        open_checkpoint(tmp_path)


def test_neither_torch_nor_tensorflow_is_imported():
    code = (
        "import sys, zoo; from zoo.weights import open_checkpoint;"
        f"list(open_checkpoint({str(GOLDEN / 'torch_zip.pth')!r}).values());"
        "assert not {'torch', 'tensorflow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64", "float8_e5m2", "float8_e4m3fn"])
def test_rarer_dtypes_of_safetensors(tmp_path, name):
    tensors = {"a": np.array([1, 2], np.dtype(name))}
    save_file(tensors, tmp_path / "x.safetensors")
    assert_same(open_checkpoint(tmp_path / "x.safetensors"), tensors)


def test_damaged_members_of_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(
        path, good=np.arange(3), objects=np.array([{}], object), flipped=np.full(64, 7, np.int8)
    )
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("note.txt", "hello")
        file.writestr("text.npy", "hello")
    path.write_bytes(path.read_bytes().replace(b"\7" * 64, b"\7" * 63 + b"\6"))
    checkpoint = open_checkpoint(path)
    assert set(checkpoint) == {"good", "objects", "flipped", "text"}
    np.testing.assert_array_equal(checkpoint["good"], [0, 1, 2])
    for name in ("objects", "flipped", "text"):
        with pytest.raises(InputError, match=rf"x\.npz: {name}\.npy cannot be read: "):
            checkpoint[name]


@pytest.mark.parametrize(
    "weight_map", [{}, [], {"a": 3}, {"a": ["x"]}, {"a": "x.index.json"}, {"a": None, "b": "x"}]
)
def test_broken_index(tmp_path, weight_map):
    path = tmp_path / "x.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match=r"x\.index\.json: (not an index|shard .* is an index)"):
        open_checkpoint(path)
