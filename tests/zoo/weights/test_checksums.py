import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from zoo.weights.checksums import (
    DamagedError,
    array_sums,
    check_arrays,
    check_files,
    describe,
    names,
    read_manifest,
    sums_on_host,
    write_manifest,
)


def by_hand(words):
    """The checksum of 32-bit words, computed with Python's integers."""
    total = 0
    for place, word in enumerate(words):
        h = place
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = (h ^ (h >> shift)) * factor % 2**32
        mixed = int(word) * ((h ^ (h >> 16)) | 1) % 2**32
        mixed = (mixed ^ (mixed >> 16)) * 0x9E3779B1 % 2**32
        total += mixed ^ (mixed >> 15)
    return total % 2**32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 0), (2, 3, 5)])
def test_equals_the_sum_by_hand(dtype, shape):
    rng = np.random.default_rng(0)
    array = np.asarray(jnp.asarray(rng.normal(size=shape) * 9).astype(dtype))
    words = array.view(np.uint8 if dtype == "bool" else f"uint{8 * array.dtype.itemsize}")
    assert sums_on_host([array]) == [by_hand(words.ravel())]
    assert array_sums({"a": jnp.asarray(array)}).tolist() == [by_hand(words.ravel())]


def test_every_flipped_bit_and_every_exchange_is_seen():
    array = np.random.default_rng(0).normal(size=16).astype(np.float32)
    others = []
    for bit in range(16 * 32):
        flipped = array.copy()
        flipped.view(np.uint32)[bit // 32] ^= np.uint32(1 << bit % 32)
        others.append(flipped)
    exchanged = array.copy()
    exchanged[[3, 9]] = exchanged[[9, 3]]
    others += [exchanged, -array, np.zeros_like(array), np.roll(array, 1)]
    assert not set(sums_on_host([array])) & set(sums_on_host(others))


def test_a_manifest_names_files_and_arrays(tmp_path):
    tree = {"kernel": np.ones((2, 3), np.float32), "bias": [np.zeros(3, np.int32)]}
    assert names(tree) == ["bias/0", "kernel"]
    step = epath.Path(tmp_path)
    (step / "data").mkdir()
    (step / "data" / "metadata").write_text('{"batch": 3}')
    write_manifest(step, describe({"item": tree}, sums_on_host(tree)), with_files=True)
    manifest = read_manifest(step)
    assert manifest.arrays["item/kernel"].startswith("float32[2, 3] ")
    assert list(manifest.files) == ["data/metadata"]
    check_files(step)
    check_arrays(step, "item", tree)
    with pytest.raises(DamagedError, match="item/bias/0 is damaged"):
        check_arrays(step, "item", {**tree, "bias": [np.array([0, 1, 0], np.int32)]})
    with pytest.raises(DamagedError, match="item/kernel is damaged"):  # other shape
        check_arrays(step, "item", {**tree, "kernel": np.ones((3, 2), np.float32)})
    (step / "data" / "metadata").write_text('{"batch": 4}')
    with pytest.raises(DamagedError, match="data/metadata is damaged"):
        check_files(step)
    (step / "checksums").write_text((step / "checksums").read_text().replace("2, 3", "2, 4"))
    with pytest.raises(DamagedError, match="its checksums are damaged"):
        check_files(step)
