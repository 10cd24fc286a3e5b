"""Mask R-CNN's parts, against torchvision's outputs on drawn weights."""

import numpy as np
import pytest

from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_losses_equal,
    assert_near,
    detections_of,
    sizes_of,
    targets_of,
)
from zoo.models.detection.mask_rcnn.loss import MaskRCNNLoss
from zoo.models.detection.parts.objects import mask_detections
from zoo.ops.instance_masks import paste_masks


@pytest.fixture(scope="module", params=["v1", "v2"])
def peer(request, golden):
    return golden(f"mask_rcnn_torchvision_{request.param}")


def test_masks_of_detections_equal_torchvisions(peer):
    found = detections_of(peer, mask_detections)
    assert found.paste == "whole_pixels"
    sizes = np.asarray(sizes_of(peer.inputs[1])).tolist()
    for i, count in enumerate(assert_boxes_equal(peer, found)):
        expected = peer.groups[f"detections/{i}/masks"][:, 0]
        assert np.ptp(expected) > 0.3
        assert_near(found.mask_crops[i][:count], expected, "masks")
        pasted = peer.groups[f"detections/{i}/pasted"]
        shown = found.mask_crops[i][: len(pasted)], found.boxes[i][: len(pasted)]
        assert_near(paste_masks(*shown, tuple(sizes[i]), found.paste), pasted, "pasted")


def test_losses_equal_torchvisions_for_the_same_samples(peer):
    """Also with batch norm, whose statistics count neither filling nor other images' regions."""
    targets = targets_of(peer, "masks")
    assert_losses_equal(peer, MaskRCNNLoss(), targets, {"loss_mask": "mask"})
