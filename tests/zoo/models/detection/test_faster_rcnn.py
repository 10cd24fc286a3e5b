"""Faster R-CNN's parts, against torchvision's and detectron2's outputs on drawn weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.models.detection.parts.decode import softmax_rois
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.outputs import Targets

CASES = [f"faster_rcnn_torchvision_{case}" for case in ("v1", "v2", "mobilenet")]


def assert_near(found, expected, name):
    """Differences of at most 1e-4 of the largest value: torchvision's are computed in float64."""
    atol = 1e-4 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)


@pytest.fixture(scope="module", params=CASES)
def peer(request, golden):
    return golden(request.param)


def sizes_of(valid):
    return jnp.stack([valid.any(axis=axis).sum(axis=1) for axis in (2, 1)], axis=1)


def test_maps_equal_the_peers(peer):
    features = jax.jit(lambda *x: peer.model.apply(*x, method="features"))
    maps = features(peer.variables, *peer.inputs).maps
    checked = [name for name in peer.groups if name.startswith("maps/")]
    assert checked
    for name in checked:
        assert_near(maps[int(name.removeprefix("maps/"))], peer.groups[name], name)


def test_anchors_and_detections_equal_the_peers(peer):
    images, valid = peer.inputs
    output = jax.jit(peer.model.apply)(peer.variables, images, valid)
    np.testing.assert_array_equal(output.anchors[1], peer.groups["anchors/all"])
    found = softmax_rois(output, sizes_of(valid))
    for i in range(len(images)):
        expected = {k: peer.groups[f"detections/{i}/{k}"] for k in ("boxes", "scores", "labels")}
        count = len(expected["scores"])
        assert count > 3
        np.testing.assert_array_equal(found.valid[i].sum(), count)
        np.testing.assert_array_equal(found.labels[i][:count], expected["labels"])
        assert_near(found.scores[i][:count], expected["scores"], "scores")
        assert_near(found.boxes[i][:count], expected["boxes"], "boxes")


def targets_of(peer):
    valid = peer.inputs[1]
    counts = peer.groups["targets/counts"]
    boxes = jnp.asarray(peer.groups["targets/boxes"])
    return Targets(
        boxes,
        jnp.asarray(peer.groups["targets/labels"]),
        jnp.arange(boxes.shape[1]) < counts[:, None],
        sizes_of(valid),
        jnp.ones(len(valid), bool),
    )


def test_losses_equal_torchvisions_for_the_same_samples(golden):
    peer = golden("faster_rcnn_torchvision_v1")
    targets = targets_of(peer)
    apply = jax.jit(partial(peer.model.apply, train=True))
    output = apply(peer.variables, *peer.inputs, targets=targets)
    losses, _ = TwoStageLoss()(output, targets)
    names = {
        "loss_objectness": "objectness",
        "loss_rpn_box_reg": "rpn_box",
        "loss_classifier": "class",
        "loss_box_reg": "box",
    }
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)
