"""Keypoint R-CNN's parts, against torchvision's and detectron2's outputs on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.rcnn import (
    DETECTRON2,
    TORCHVISION,
    assert_boxes_equal,
    assert_losses_equal,
    assert_near,
    detections_of,
    small_model,
    small_targets,
    targets_of,
)
from zoo.models.detection.keypoint_rcnn.decode import decode
from zoo.models.detection.keypoint_rcnn.loss import KeypointRCNNLoss
from zoo.models.detection.parts.losses import DETECTRON2_LOSS
from zoo.types import InputError

CASES = [
    "keypoint_rcnn_torchvision_wide",
    "keypoint_rcnn_torchvision_high",
    "keypoint_rcnn_detectron2",
]
# `test_goldens.py` compares the outputs of all cases.
SHORT = [CASES[0], *(pytest.param(case, marks=pytest.mark.slow) for case in CASES[1:])]


@pytest.fixture(scope="module", params=SHORT)
def peer(request, golden):
    return golden(request.param)


def test_joints_of_detections_equal_the_peers(peer):
    found = detections_of(peer, decode)
    for i, count in enumerate(assert_boxes_equal(peer, found)):
        expected = peer.groups[f"detections/{i}/keypoints"]
        assert len(np.unique(expected[..., :2].reshape(-1, 2), axis=0)) > 10
        assert_near(found.keypoints[i][:count, :, :2], expected[..., :2], "points")
        scores = expected[..., 2]
        if peer.source == "torchvision":
            scores = peer.groups[f"detections/{i}/keypoints_scores"]
        assert_near(found.keypoints[i][:count, :, 2], scores, "scores")


def test_losses_equal_the_peers_for_the_same_samples(peer):
    loss, names = KeypointRCNNLoss(), TORCHVISION
    if peer.source == "detectron2":
        names = DETECTRON2
        loss = KeypointRCNNLoss(**vars(DETECTRON2_LOSS), fixed_keypoint_normaliser=True)
    targets = targets_of(peer, keypoints=jnp.asarray(peer.groups["targets/keypoints"]))
    assert_losses_equal(peer, loss, targets, {**names, "loss_keypoint": "keypoint"})


@pytest.fixture(scope="module")
def nano():
    return small_model("keypointrcnn_nano", KeypointRCNNLoss(), "keypoint", num_keypoints=4)


# Of four joints one is not labelled, and one is outside both boxes.
JOINTS = jnp.array([[20.0, 20, 2], [0, 0, 0], [63, 5, 2], [40, 33, 1]])
PLACES = jnp.broadcast_to(JOINTS, (2, 2, 4, 3)).at[0, 1, 0, 2].set(0)


def test_only_labelled_joints_in_the_box_of_a_real_image_count(nano):
    _, variables, losses = nano
    targets = small_targets(keypoints=PLACES)
    _, found = losses(variables["params"], targets)
    assert found["keypoint"].weight == 2  # one in each box
    none = targets.replace(image_valid=jnp.array([False, True]))
    gradient, found = losses(variables["params"], none)
    assert found["keypoint"].weight == 0
    assert all(not jnp.any(x) for x in jax.tree.leaves(gradient))  # and is a number


def test_data_without_keypoints_are_refused(nano):
    _, variables, losses = nano
    with pytest.raises(InputError, match=r"data\.keypoints=true"):
        losses(variables["params"], small_targets())


def test_predict_gives_joints_in_pixels_of_the_image_inside_the_boxes(nano):
    model, variables, _ = nano
    image = np.random.default_rng(0).integers(0, 256, (48, 90, 3), np.uint8)
    found = zoo.predict(model, variables, image, skeleton=[(0, 1), (1, 2)])
    assert found.keypoints.shape == (20, 4, 3)
    low, high = found.boxes[:, None, :2], found.boxes[:, None, 2:]
    points = found.keypoints[..., :2]
    assert ((points > low) & (points < np.maximum(high, low + 90 / 64))).all()
    assert len(np.unique(points.reshape(-1, 2), axis=0)) > 20


def test_a_file_of_detectron2_gives_the_model_its_conventions(golden, tmp_path):
    peer = golden("keypoint_rcnn_detectron2")
    np.savez(tmp_path / "model.npz", **peer.weights)
    left_out = ("keypoint_score", "pooling_fields", "anchor_fields")
    fields = {name: value for name, value in peer.fields.items() if name not in left_out}
    fields |= {"decoding_fields": {"most": 6}}
    model, _, report = zoo.load_with_report(peer.name, tmp_path / "model.npz", **fields)
    assert report.source == "detectron2"
    assert model.clone(preprocessing=None) == peer.model


def test_new_classes_and_joints_make_new_last_layers(golden, tmp_path):
    peer = golden("keypoint_rcnn_torchvision_wide")
    np.savez(tmp_path / "model.npz", **peer.weights)
    fields = {**peer.fields, "num_classes": 2, "num_keypoints": 7}
    _, variables, report = zoo.load_with_report(peer.name, tmp_path / "model.npz", **fields)
    fresh = {"params/box/predictor/logits/", "params/box/predictor/deltas/"}
    fresh |= {"params/keypoints/head/deconv/"}
    assert {path.rpartition("/")[0] + "/" for path in report.reinitialised} == fresh
    assert variables["params"]["keypoints"]["head"]["deconv"]["kernel"].shape == (4, 4, 8, 7)
