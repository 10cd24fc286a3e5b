"""FPN and PAFPN, against the peers' and against the definition with weights that only copy."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import FPN, PAFPN
from zoo.weights.blocks import detectron2_fpn, mmdet_fpn, torchvision_fpn
from zoo.weights.maps import plan
from zoo.weights.tree import flatten, unflatten

GOLDEN = Path(__file__).parents[2] / "golden" / "pyramids.npz"
with np.load(GOLDEN) as file:
    ARRAYS = dict(file)
CASES = json.loads(str(ARRAYS["cases"]))
MODELS = {
    "torchvision_pool": FPN(2, num_extra=1),
    "torchvision_output": FPN(2, num_extra=2, extra="output"),
    "torchvision_input": FPN(2, num_extra=2, extra="input"),
    "torchvision_batch": FPN(2, norm="batch"),
    "detectron2_input": FPN(2, num_extra=2, extra="input"),
    "mmdet_fpn_output": FPN(2, num_extra=2, extra="output", extra_relu=False),
    "mmdet_pafpn_pool": PAFPN(2, form="mmdet", num_extra=1),
    "mmdet_pafpn_batch": PAFPN(2, form="mmdet", norm="batch"),
}
RULES = {
    "torchvision": torchvision_fpn("fpn", "neck"),
    "detectron2": detectron2_fpn("fpn", "neck", first=3),
    "mmdet": mmdet_fpn("fpn", "neck", levels=3),
}


def group(case, part):
    """The arrays of a part of a case by name."""
    start = f"{case}/{part}/"
    return {k.removeprefix(start): v for k, v in ARRAYS.items() if k.startswith(start)}


def ordered(arrays):
    return tuple(jnp.asarray(arrays[str(i)]) for i in range(len(arrays)))


def loaded(model, rules, maps, weights):
    """The variables from a peer's weights; every tensor is used except counters of batches."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), maps)
    leaves = flatten({kind: {"neck": tree} for kind, tree in shapes.items()})
    flat, used = {}, set()
    for step in plan(rules, leaves):
        flat |= zip(step.ours, step.layout.read(weights[step.theirs]), strict=True)
        used.add(step.theirs)
    assert {name for name in weights if "num_batches" not in name} == used
    return {kind: tree["neck"] for kind, tree in unflatten(flat).items()}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_peer(case):
    """Within 1e-5 of the largest value: only float32's rounding differs."""
    maps, expected = ordered(group(case, "maps")), ordered(group(case, "outputs"))
    weights = {f"fpn.{name}": x for name, x in group(case, "weights").items()}
    model = MODELS[case]
    variables = loaded(model, RULES[case.partition("_")[0]], maps, weights)
    found = jax.jit(model.apply)(variables, maps)
    assert [x.shape for x in found] == [x.shape for x in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * float(abs(theirs).max()))


def test_old_names_of_torchvision_are_those_without_the_zero():
    new, old = (torchvision_fpn("fpn", "neck", old=old) for old in (False, True))
    convs = [(n.theirs, o.theirs) for n, o in zip(new, old, strict=True) if ".{i}.0." in n.theirs]
    assert len(convs) == 4
    assert all(theirs.replace(".0.", ".") == before for theirs, before in convs)


def copying(model, maps):
    """Variables of a pyramid of one feature whose convolutions all copy."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), maps)

    def kernel(path, leaf):
        side = leaf.shape[0] // 2
        zeros = jnp.zeros(leaf.shape)
        return zeros.at[side, side].set(1) if path[-1].key == "kernel" else zeros

    return jax.tree_util.tree_map_with_path(kernel, shapes)


def test_panet_sums_the_outputs_and_rectifies():
    """With convolutions that only copy: N2 = P2, then relu(relu(N_i at even pixels) + P_(i+1))."""
    rng = np.random.default_rng(0)
    maps = tuple(
        rng.normal(size=(1, h, w, 1)).astype(np.float32) for h, w in ((8, 6), (4, 3), (2, 2))
    )
    model = PAFPN(1, num_extra=1)
    inputs = tuple(map(jnp.asarray, maps))
    found = model.apply(copying(model, inputs), inputs)

    sums = [None, None, maps[2]]
    for i in (1, 0):
        rows, columns = (
            np.arange(n) * m // n
            for n, m in zip(maps[i].shape[1:3], maps[i + 1].shape[1:3], strict=True)
        )
        sums[i] = maps[i] + sums[i + 1][:, rows][:, :, columns]
    levels = [sums[0]]
    for level in sums[1:]:
        below = np.maximum(levels[-1][:, ::2, ::2], 0)
        levels.append(np.maximum(below + level, 0))
    levels.append(levels[-1][:, ::2, ::2])
    assert any((level < 0).any() for level in sums)
    for ours, expected in zip(found, levels, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
