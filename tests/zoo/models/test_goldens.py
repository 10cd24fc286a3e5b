"""For every golden, our model with the peer's checkpoint gives the peer's outputs."""

import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.zoo.conftest import models_goldens, read_golden
from zoo.registry import FAMILIES, MODELS


@pytest.fixture(scope="module", params=models_goldens())
def case(request, tmp_path_factory):
    """A golden and its checkpoint as a file."""
    peer = read_golden(request.param)
    folder = tmp_path_factory.mktemp("golden")
    if peer.source == "zoo":
        save_file(peer.weights, path := folder / "weights.safetensors")
    else:
        np.savez(path := folder / "weights.npz", **peer.weights)
    return peer, path


def last(x):
    """The last, coarsest, of a tuple of feature maps; any other value as it is."""
    return x[-1] if isinstance(x, tuple) else x


def computed(peer, variables):
    """Our outputs under the peer's names: the output of the call, its fields, or of a method."""
    output = jax.jit(peer.model.apply)(variables, *peer.inputs)
    found = {}
    for name in peer.outputs:
        if hasattr(output, name):
            found[name] = getattr(output, name)
        elif name == "logits":
            found[name] = output
        else:
            method = functools.partial(peer.model.apply, method=name)
            found[name] = last(jax.jit(method)(variables, *peer.inputs))
    return found


def test_equals_the_peer(case):
    """The tolerance is stated in the golden, or else 1e-5 of the largest value of the array.

    For boxes in pixels it is at least that, since rounding is in proportion to their size.

    Differences come from the rounding of float32: on both sides or, if the peer computed in
    float64, only on our side.
    """
    peer, path = case
    _, variables, report = zoo.load_with_report(peer.name, path, **peer.fields)
    assert report.source == peer.source
    assert not report.resized and not report.reinitialised
    assert set(report.dropped) == {n for n in peer.weights if n.endswith("num_batches_tracked")}
    for name, found in computed(peer, variables).items():
        expected, found = peer.outputs[name], np.asarray(found)
        assert found.shape == expected.shape, name
        rounding = 1e-5 * max(1.0, np.abs(expected).max())
        atol = peer.tolerance or rounding
        if name in MODELS[peer.name].constant:
            atol = max(atol, rounding)
        where = Ellipsis if peer.where is None else peer.where
        np.testing.assert_allclose(found[where], expected[where], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.names], ids=lambda f: f.title)
def test_a_family_with_names_has_a_golden(family):
    assert any(MODELS[read_golden(case).name] is family for case in models_goldens())
