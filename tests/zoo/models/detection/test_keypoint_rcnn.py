"""Keypoint R-CNN's parts, against torchvision's outputs on drawn weights."""

import numpy as np
import pytest

from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_losses_equal,
    assert_near,
    detections_of,
    targets_of,
)
from zoo.models.detection.keypoint_rcnn.decode import decode
from zoo.models.detection.keypoint_rcnn.loss import KeypointRCNNLoss


@pytest.fixture(scope="module", params=["wide", "high"])
def peer(request, golden):
    return golden(f"keypoint_rcnn_torchvision_{request.param}")


def test_joints_of_detections_equal_torchvisions(peer):
    found = detections_of(peer, decode)
    for i, count in enumerate(assert_boxes_equal(peer, found)):
        points = peer.groups[f"detections/{i}/keypoints"][..., :2]
        assert len(np.unique(points.reshape(-1, 2), axis=0)) > 10
        assert_near(found.keypoints[i][:count, :, :2], points, "points")
        scores = peer.groups[f"detections/{i}/keypoints_scores"]
        assert_near(found.keypoints[i][:count, :, 2], scores, "scores")


def test_losses_equal_torchvisions_for_the_same_samples(peer):
    targets = targets_of(peer, "keypoints")
    assert_losses_equal(peer, KeypointRCNNLoss(), targets, {"loss_keypoint": "keypoint"})
