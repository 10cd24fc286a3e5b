"""TridentNet against detectron2's outputs and losses on drawn weights; the sizes of branches.

`tests/zoo/models/test_goldens.py` compares the outputs of all branches.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.rcnn import (
    DETECTRON2,
    assert_boxes_equal,
    assert_losses_equal,
    assert_maps_equal,
    assert_near,
    detections_of,
    small_targets,
    targets_of,
)
from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.losses import DETECTRON2_LOSS
from zoo.models.detection.tridentnet.decode import trident_rois
from zoo.models.detection.tridentnet.model import TridentOutput
from zoo.models.detection.tridentnet.ranges import RangedAnchors, RangedProposals
from zoo.outputs import Targets
from zoo.types import InputError

RULE = RoiDecoding(min_size=0.0)  # detectron2 drops no small boxes


@pytest.fixture(scope="module")
def peer(golden):
    return golden("tridentnet_detectron2")


def test_the_maps_of_all_branches_equal_detectron2s(peer):
    maps = assert_maps_equal(peer)
    branches = np.asarray(maps[0]).reshape(2, 3, *maps[0].shape[1:])
    assert np.abs(np.diff(branches, axis=1)).max(axis=(0, 2, 3, 4)).min() > 0.05


def test_merged_detections_equal_detectron2s(peer):
    assert_boxes_equal(peer, detections_of(peer, lambda *x: trident_rois(*x, RULE)))


def test_the_middle_branch_alone_equals_detectron2s(peer):
    """Its outputs, and its detections; the peer has all under ``fast/``."""
    theirs = {k.removeprefix("fast/"): x for k, x in peer.groups.items() if k.startswith("fast/")}
    fast = dataclasses.replace(peer, fields={**peer.fields, "test_branch": 1}, groups=theirs)
    output = jax.jit(fast.model.apply)(fast.variables, *fast.inputs)
    for name in ("rpn_logits", "rpn_deltas", "proposals", "class_logits", "box_deltas"):
        assert_near(getattr(output, name), theirs[name], name)
    assert_boxes_equal(fast, detections_of(fast, lambda *x: trident_rois(*x, RULE)))


@pytest.mark.slow
def test_losses_equal_detectron2s(peer):
    assert_losses_equal(peer, DETECTRON2_LOSS, targets_of(peer), DETECTRON2)


def test_a_branch_does_not_detect_objects_of_other_sizes():
    """Of two branches that find the same small and large box, each keeps its own."""
    boxes = jnp.array([[[0.0, 0, 10, 10], [20, 20, 60, 60]] * 2])
    logits = jnp.broadcast_to(jnp.array([4.0, 0.0]), (1, 4, 2)).at[0, :2, 0].add(1)
    output = TridentOutput(
        jnp.zeros((1, 4)),
        jnp.zeros((1, 4, 4)),
        boxes,
        boxes,
        jnp.ones((1, 4), bool),
        logits,
        jnp.zeros((1, 4, 1, 4)),
        num_branches=2,
        valid_ranges=((0, 20), (15, 100)),
    )
    found = trident_rois(output, jnp.array([[64, 64]]))
    assert found.valid[0].sum() == 2
    np.testing.assert_array_equal(found.boxes[0, :2], [[0, 0, 10, 10], [20, 20, 60, 60]])
    scores = jax.nn.sigmoid(jnp.array([5.0, 4.0]))  # of the first and of the second branch
    np.testing.assert_allclose(found.scores[0, :2], scores, rtol=1e-6)
    every = trident_rois(output.replace(valid_ranges=()), jnp.array([[64, 64]]))
    np.testing.assert_allclose(every.scores[0, :2], jnp.repeat(scores[:1], 2), rtol=1e-6)


def test_anchors_near_an_object_of_another_branch_are_ignored():
    """An anchor on it, one that overlaps it by 0.4, by 0.25, and one on the branch's own object."""
    anchors = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 4], [0, 0, 10, 2.5], [20, 20, 60, 60]])
    anchors = jnp.broadcast_to(anchors, (2, 4, 4))
    objects = jnp.array([[[0.0, 0, 10, 10], [20, 20, 60, 60], [30, 30, 31, 31]]] * 2)
    valid = jnp.array([[True, True, False]] * 2)
    targets = Targets(
        objects, jnp.zeros((2, 3), int), valid, jnp.full((2, 2), 64), jnp.ones(2, bool)
    )
    sampling = RangedAnchors(ranges=((0, 20), (15, 100)))
    match, label = sampling.assign(anchors, targets)
    np.testing.assert_array_equal(label, [[1, -1, 0, -1], [-1, -1, 0, 1]])
    np.testing.assert_array_equal(match[:, ::3], [[0, 1], [0, 1]])


def test_proposals_in_training_have_the_sizes_of_their_branch():
    rule = RangedProposals(ranges=((0, 20), (15, 100)))
    boxes = jnp.array([[[0.0, 0, 10, 10], [0, 0, 18, 18], [20, 20, 60, 60], [5, 5, 5, 9]]] * 4)
    expected = np.array([[1, 1, 0, 0], [0, 1, 1, 0]] * 2, bool)
    np.testing.assert_array_equal(rule.allowed(boxes, train=True), expected)
    np.testing.assert_array_equal(rule.allowed(boxes, train=False)[:, :3], True)


def test_ranges_decide_what_the_branches_of_a_model_learn():
    """The one object of 22 x 28 px is learned by the second branch only."""
    ranges = ((0, 15), (12, 40), (36, 100))
    model = zoo.create("tridentnet_nano", num_classes=3, valid_ranges=ranges)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    targets = small_targets()
    targets = targets.replace(valid=targets.valid.at[0, 1].set(False))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    output, _ = apply(variables, images, targets=targets)
    count = output.anchor_samples.index.shape[1] // 3
    positive = output.anchor_samples.positive.reshape(2, 3, count).sum(axis=2)
    assert positive[0, 1] > 0
    np.testing.assert_array_equal(positive[0, ::2], 0)
    branch = output.anchor_samples.index // (output.rpn_logits.shape[1] // 3)
    np.testing.assert_array_equal(branch, np.repeat([[0, 1, 2]] * 2, count, axis=1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_branch": 3}, "test_branch is 3, but there are 3 branches"),
        ({"valid_ranges": ((0, 90), (30, 160))}, "valid_ranges has 2 of 3 branches"),
        ({"neck": "fpn"}, "no pyramid"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    model = zoo.create("tridentnet_nano", **fields)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
