"""Pickles of numpy's arrays, as detectron2 publishes its models; nothing in them runs."""

import os
import pickle
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

import zoo
from zoo.types import IMAGENET_MEAN, InputError
from zoo.weights import open_checkpoint, pickles

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": RNG.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "columns": np.asfortranarray(RNG.normal(size=(3, 5))),
    "turned": RNG.normal(size=(2, 3, 4)).astype(np.float32).transpose(1, 2, 0),
    "every.second": np.arange(20, dtype=np.int64)[::2],
    "half": np.float16([1.5, -2]),
    "big.endian": np.arange(3, dtype=">i4"),
    "bytes": np.arange(256, dtype=np.uint8),
    "truth": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(7, np.float32),
}


def write(path, content, protocol=2):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol(tmp_path, protocol):
    """Numbers and strings beside the arrays are not tensors; arrays have this machine's bytes."""
    beside = {"__author__": "somebody", "epoch": np.int64(3), "loss": np.float32(0.5)}
    path = write(tmp_path / "x.pkl", {"model": ARRAYS, **beside}, protocol)
    found = open_checkpoint(path)
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)


def python2(array):
    """The opcodes of an array as Python 2 and numpy 1 wrote them, with bytes as strings."""
    shape = b"(" + b"".join(b"K" + bytes([n]) for n in array.shape) + b"t"
    data = array.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01"
        + shape
        + b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        + b"K\x00tb\x89T"
        + struct.pack("<I", len(data))
        + data
        + b"tb"
    )


def test_arrays_of_python_2(tmp_path):
    array = RNG.normal(size=(5, 3)).astype(np.float32)
    content = b"\x80\x02}U\x05model}U\x03a.bsU\x0a__author__U\x03\xc3\xa9xs."
    content = content.replace(b"U\x03a.bs", b"U\x03a.b" + python2(array) + b"ss")
    found = open_checkpoint(write(tmp_path / "x.pkl", content))
    np.testing.assert_array_equal(found["a.b"], array)


def test_a_model_of_detectron2(golden, tmp_path):
    peer = golden("resnet_detectron2_msra")
    content = {"model": peer.weights, "__author__": "Detectron2 Model Zoo"}
    path = write(tmp_path / "model_final_0123ab.pkl", content)
    model, variables, report = zoo.load_with_report(peer.name, path, **peer.fields)
    assert report.source == "detectron2"
    jax.tree.map(np.testing.assert_array_equal, variables, peer.variables)
    assert (model.preprocessing.mean, model.preprocessing.std) == (IMAGENET_MEAN, (1 / 255,) * 3)


class Call:
    """An object that is pickled as a function call."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_in_place_of_a_weight_is_refused(tmp_path, protocol):
    target = tmp_path / "ran"
    weights = {**ARRAYS, "evil.weight": Call(os.system, f"touch {target}")}
    path = write(tmp_path / "x.pkl", {"model": weights}, protocol)
    found = open_checkpoint(path)
    np.testing.assert_array_equal(found["half"], ARRAYS["half"])
    with pytest.raises(InputError, match=r"x\.pkl: evil\.weight is not a tensor but \w+\.system,"):
        found["evil.weight"]
    assert not target.exists()


@pytest.mark.parametrize("inside", ["shape", "dtype", "numbers"])
def test_a_call_inside_an_array_is_refused(tmp_path, inside):
    target = tmp_path / "ran"
    reconstruct, arguments, state = np.ones(3, np.float32).__reduce__()
    state = list(state)
    state[{"shape": 1, "dtype": 2, "numbers": 4}[inside]] = Call(os.system, f"touch {target}")

    class Array:
        def __reduce__(self):
            return reconstruct, arguments, tuple(state)

    path = write(tmp_path / "x.pkl", {"model": {"a.weight": Array(), **ARRAYS}})
    with pytest.raises(InputError, match=r"x\.pkl: .*which is not loaded: no code is run"):
        _ = open_checkpoint(path)["a.weight"]
    assert not target.exists()


@pytest.mark.parametrize(
    "array", [np.array([{}, None]), np.array(["a"]), np.zeros(2, "i4,f4"), np.zeros(2, "M8[s]")]
)
def test_arrays_that_are_not_of_numbers(tmp_path, array):
    """Refused where a weight should be; elsewhere they do no harm."""
    content = {"model": {"a.weight": ARRAYS["half"]}, "history": array}
    assert set(open_checkpoint(write(tmp_path / "x.pkl", content))) == {"a.weight"}
    content["model"]["a.names"] = array
    found = open_checkpoint(write(tmp_path / "x.pkl", content))
    with pytest.raises(InputError, match=r"a\.names is not a tensor but an array of numpy that is"):
        found["a.names"]


def array_opcodes(shape=b"(K\x03t", kind=b"U\x02f4", data=b"U\x0c" + bytes(12)):
    """A pickle with the array ``a.b`` whose description may be false."""
    return (
        b"\x80\x02}U\x03a.bcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01" + shape + b"cnumpy\ndtype\n(" + kind + b"K\x00K\x01tR(K\x03U\x01<NNNtb\x89"
        b"" + data + b"tbs."
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"shape": b"(K\x04t"}, "an array of 12 bytes for its shape (4,)"),
        ({"shape": b"(J\xff\xff\xff\xffK\x00t"}, "a tensor of sizes that are not 0 to"),
        ({"shape": b"(" + b"K\x01" * 40 + b"K\x03t"}, "a tensor of too many axes"),
        ({"shape": b"(K\x00" + b"\x8a\x07" + b"\x01" * 7 + b"t"}, "a tensor of sizes that are not"),
        ({"shape": b"(U\x01xt"}, "a tensor of sizes that are not"),
        ({"data": b"K\x01"}, "an array without numbers"),
        ({"data": b"c_codecs\nencode\n(X\x01\x00\x00\x00aU\x03hextR"}, "not written as latin1"),
        ({"data": b"c__builtin__\nbytes\n(K\x0ctR"}, "takes 1 positional argument"),
    ],
)
def test_false_descriptions(tmp_path, parts, message):
    good = open_checkpoint(write(tmp_path / "good.pkl", array_opcodes()))
    np.testing.assert_array_equal(good["a.b"], np.zeros(3, np.float32))
    with pytest.raises(InputError) as error:
        open_checkpoint(write(tmp_path / "x.pkl", array_opcodes(**parts)))
    assert str(error.value).startswith(
        f"{tmp_path / 'x.pkl'}: not a readable PyTorch file or pickle"
    )
    assert message in str(error.value) and "\n" not in str(error.value)


def test_bytes_are_not_multiplied(tmp_path):
    """The same text is made to bytes again and again: together more than the file has."""
    text = b"X\x00\x01\x00\x00" + b"a" * 256 + b"q\x01"
    repeated = b"h\x00(h\x01tR" * 200
    content = b"\x80\x02]c_codecs\nencode\nq\x00" + text + b"(" + repeated + b"t."
    with pytest.raises(InputError, match="more bytes than the file has"):
        open_checkpoint(write(tmp_path / "x.pkl", content))


def test_long_strings_do_not_count_as_the_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_PICKLE", 4000)
    content = {"model": {"a.b": np.zeros(10_000, np.float32)}}
    assert open_checkpoint(write(tmp_path / "x.pkl", content, 4))["a.b"].size == 10_000
    content["more"] = [str(i) for i in range(2000)]
    with pytest.raises(InputError, match="more than 4000 bytes beside"):
        open_checkpoint(write(tmp_path / "x.pkl", content, 4))


def test_what_is_no_dict_of_arrays(tmp_path):
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x03tQ"
    cases = {
        "holds a list, not a state dict": [1, 2],
        "no state dict under a": {"a": 1},
        "tensors whose numbers are in other files": b"\x80\x02}U\x03a.b" + storage + b"s.",
    }
    for message, content in cases.items():
        with pytest.raises(InputError, match=message):
            open_checkpoint(write(tmp_path / "x.pkl", content))


def test_a_pickle_is_known_by_its_content(tmp_path):
    for name in ("model.bin", "model"):
        assert set(open_checkpoint(write(Path(tmp_path / name), {"a.b": ARRAYS["half"]}))) == {
            "a.b"
        }
