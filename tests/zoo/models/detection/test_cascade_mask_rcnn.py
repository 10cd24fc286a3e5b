"""Cascade R-CNN with masks against detectron2's detections and losses, on drawn weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_near,
    detections_of,
    targets_of,
)
from zoo.models.detection.cascade_mask_rcnn.loss import CascadeMaskLoss
from zoo.models.detection.parts.objects import mask_detections
from zoo.types import InputError


@pytest.fixture(scope="module")
def peer(golden):
    return golden("cascade_mask_rcnn_detectron2")


@pytest.mark.slow
def test_masks_of_detections_equal_detectron2s(peer):
    found = detections_of(peer, mask_detections)
    for i, count in enumerate(assert_boxes_equal(peer, found)):
        expected = peer.groups[f"detections/{i}/masks"][:, 0]
        assert np.ptp(expected) > 0.3
        assert_near(found.mask_crops[i][:count], expected, "masks")


@pytest.mark.slow
def test_masks_are_learned_from_the_regions_of_the_first_stage(peer):
    targets = targets_of(peer, masks=jnp.asarray(peer.groups["targets/masks"]))
    apply = jax.jit(partial(peer.model.apply, train=True))
    output = apply(peer.variables, *peer.inputs, targets=targets)
    losses, _ = CascadeMaskLoss()(output, targets)
    names = {"rpn_cls": "objectness", "rpn_loc": "rpn_box", "mask": "mask"}
    for k in range(3):
        names |= {f"cls_stage{k}": f"class_{k}", f"box_reg_stage{k}": f"box_{k}"}
    assert set(names.values()) == set(losses)
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/loss_{theirs}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)
    with pytest.raises(InputError, match="masks"):
        CascadeMaskLoss()(output, targets.replace(masks=None))
