"""FCOS's parts, against torchvision's and mmdet's outputs on drawn weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.dense import (
    assert_detections_equal,
    assert_features_equal,
    assert_losses_equal,
)
from tests.zoo.models.detection.rcnn import small_targets
from zoo.models.detection.fcos.loss import FCOSLoss, centerness
from zoo.types import InputError

TORCHVISION = {"classification": "class", "bbox_regression": "box", "bbox_ctrness": "centerness"}
MMDET = {"loss_cls": "class", "loss_bbox": "box", "loss_centerness": "centerness"}
SECOND = FCOSLoss(closed=True, weighted_boxes=True)
LOSSES = {
    "fcos_torchvision": (FCOSLoss(), TORCHVISION),
    "fcos_torchvision_small": (FCOSLoss(), TORCHVISION),
    "fcos_mmdet": (dataclasses.replace(SECOND, radius=None, box="iou"), MMDET),
    "fcos_mmdet_second": (SECOND, MMDET),
}
# `test_goldens.py` compares the outputs of all cases.
SLOW = ("fcos_torchvision_small", "fcos_mmdet")
SHORT = [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in LOSSES]


@pytest.mark.parametrize("case", SHORT)
def test_maps_points_detections_and_losses_equal_the_peers(golden, case):
    peer = golden(case)
    assert_features_equal(peer)
    assert_detections_equal(peer)
    metrics = assert_losses_equal(peer, *LOSSES[case])
    assert metrics["matched_objects"] == 1
    if peer.images.shape[2] == 100:  # of which an object is wider than 64 px on one side of a point
        assert metrics["positive_level_1"] > 0


def test_frozen_norms_of_torchvisions_file_have_an_epsilon(golden, tmp_path):
    peer = golden("fcos_torchvision")
    np.savez(path := tmp_path / "weights.npz", **peer.weights)
    fields = {k: v for k, v in peer.fields.items() if k != "norm_epsilon"}
    model, _, report = zoo.load_with_report("fcos_resnet50_fpn", path, **fields)
    assert (report.source, report.problems, model.norm_epsilon) == ("torchvision", 0, 1e-5)


def test_centerness_is_that_of_equation_3():
    """At the centre 1, on the border 0, and by hand in between."""
    boxes = jnp.array([[[0.0, 0, 10, 20]] * 4])
    points = jnp.array([[5.0, 10], [0, 10], [2.5, 4], [12, 10]])
    anchors = jnp.concatenate([points - 4, points + 4], axis=-1)[None]
    expected = [1, 0, np.sqrt(2.5 / 7.5 * 4 / 16), 0]
    np.testing.assert_allclose(centerness(boxes, anchors)[0], expected, rtol=1e-6)


def drawn(num_objects=2):
    model = zoo.create("fcos_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    targets = small_targets()
    valid = targets.valid & (jnp.arange(2) < num_objects)
    return jax.jit(model.apply)(variables, images), targets.replace(valid=valid)


def test_parts_of_a_batch_add_up():
    output, targets = drawn()
    for loss in (FCOSLoss(), FCOSLoss(weighted_boxes=True)):
        both = loss(output, targets)[0]
        parts = [loss(output, targets.replace(image_valid=jnp.arange(2) == i))[0] for i in range(2)]
        for name, whole in both.items():
            part = parts[0][name] + parts[1][name]
            np.testing.assert_allclose(part.total, whole.total, rtol=1e-5)
            np.testing.assert_allclose(part.weight, whole.weight, rtol=1e-6)
            assert whole.value() > 0


def test_without_objects_only_the_classes_have_a_loss():
    output, targets = drawn(0)
    losses = {name: float(mean.value()) for name, mean in FCOSLoss()(output, targets)[0].items()}
    assert losses["class"] > 0
    assert losses["box"] == losses["centerness"] == 0


def test_weighted_boxes_are_those_of_the_definition():
    output, targets = drawn()
    loss = FCOSLoss(weighted_boxes=True)
    matches = loss.match(output, targets)
    image, point = np.nonzero(matches.positive)
    truth = targets.boxes[image, matches.object[image, point]]
    weights = np.asarray(centerness(truth[None], output.anchors[image, point][None])[0])
    boxes = output.decoding.coder.decode(output.deltas, output.anchors)[image, point]
    giou = np.array([zoo.ops.boxes.paired_giou(a, b) for a, b in zip(boxes, truth, strict=True)])
    expected = ((1 - giou) * weights).sum() / weights.sum()
    np.testing.assert_allclose(loss(output, targets)[0]["box"].value(), expected, rtol=1e-5)


def test_limits_must_fit_the_levels():
    output, targets = drawn()
    with pytest.raises(ValueError, match="2 levels need one limit less"):
        FCOSLoss()(output.replace(limits=()), targets)
    with pytest.raises(InputError, match=r"loss\.radius is -1.0"):
        FCOSLoss(radius=-1.0)
