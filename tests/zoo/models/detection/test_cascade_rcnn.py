"""Cascade R-CNN against detectron2's outputs, losses and gradients, and mmdet's, on drawn weights.

`tests/zoo/models/test_goldens.py` compares the outputs of every stage.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_near,
    detections_of,
    sizes_of,
    targets_of,
)
from zoo.models.detection.cascade_rcnn.names import NAMES
from zoo.models.detection.parts.cascade import cascade_rois
from zoo.models.detection.parts.cascade_loss import CascadeLoss
from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.detection.parts.samples import relabel
from zoo.ops.box_coder import BoxCoder
from zoo.outputs import Targets


@pytest.fixture(scope="module")
def peer(golden):
    return golden("cascade_rcnn_detectron2")


@pytest.mark.slow
def test_detections_equal_detectron2s(peer):
    assert_boxes_equal(peer, detections_of(peer, cascade_rois))


def test_refined_boxes_equal_mmdets(golden):
    """Its last stage has other weights than detectron2's: fields that its files imply."""
    peer = golden("cascade_rcnn_mmdet")
    (name_map,) = (one for one in NAMES if one.source == "mmdet")
    images, valid = peer.inputs
    model = peer.model.clone(coder_weights=name_map.fields(peer.model)["coder_weights"])
    output = jax.jit(model.apply)(peer.variables, images, valid)
    coder = BoxCoder(output.coder_weights[2])
    boxes = coder.decode(output.box_deltas[:, 2], output.proposals[:, 2])
    assert_near(clip_to_sizes(boxes, sizes_of(valid)), peer.groups["refined/last"], "boxes")


@pytest.fixture(scope="module")
def trained(peer):
    """The output of a training step, and the gradient of the sum of the losses."""
    variables, targets = peer.variables, targets_of(peer)
    apply = partial(peer.model.apply, train=True, targets=targets)

    def total(params):
        output = apply({**variables, "params": params}, *peer.inputs)
        losses, _ = CascadeLoss()(output, targets)
        return sum(loss.value() for loss in losses.values()), output

    grads, output = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
    return grads, output, targets


def test_losses_and_gradients_equal_detectron2s(peer, trained):
    """The same samples, and a third of the gradient of each stage in the pyramid."""
    grads, output, targets = trained
    losses, _ = CascadeLoss()(output, targets)
    names = {"loss_rpn_cls": "objectness", "loss_rpn_loc": "rpn_box"}
    for k in range(3):
        names |= {f"loss_cls_stage{k}": f"class_{k}", f"loss_box_reg_stage{k}": f"box_{k}"}
    assert set(names.values()) == set(losses)
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)
    for i in range(4):
        expected = peer.groups[f"gradients/lateral_conv_{i}"]
        assert np.abs(expected).max() > 1e-3
        found = grads["pyramid"][f"lateral_conv_{i}"]["bias"]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=f"level {i}")


def test_boxes_are_labelled_by_the_overlap_that_a_stage_asks_for():
    boxes = jnp.array([[[0.0, 0, 10, 10], [0, 0, 10, 6.5], [5, 5, 5, 9], [0, 0, 10, 10]]])
    drawn = jnp.array([[True, True, True, False]])
    targets = Targets(
        jnp.array([[[0.0, 0, 10, 10]]]),
        jnp.array([[3]]),
        jnp.ones((1, 1), bool),
        jnp.array([[20, 20]]),
        jnp.ones(1, bool),
    )
    for iou, positive in ((0.6, [1, 1, 0, 0]), (0.7, [1, 0, 0, 0])):
        found = relabel(boxes, drawn, targets, 7, iou)
        np.testing.assert_array_equal(found.drawn[0], [True, True, False, False])
        np.testing.assert_array_equal(found.positive[0], np.array(positive, bool))
        np.testing.assert_array_equal(found.labels[0], np.where(positive, 3, 7))


def test_stage_weights_scale_the_losses_of_their_stage(trained):
    _, output, targets = trained
    each = TwoStageLoss(box_beta=1.0)
    plain = CascadeLoss(each)(output, targets)[0]
    weighted = CascadeLoss(each, (1.0, 0.5, 0.25))(output, targets)[0]
    for name, loss in weighted.items():
        factor = {"1": 0.5, "2": 0.25}.get(name[-1], 1.0)
        np.testing.assert_allclose(loss.value(), factor * plain[name].value(), rtol=1e-6)
    with pytest.raises(ValueError, match="at least 0"):
        CascadeLoss(stage_weights=(1.0, -0.5, 0.25))


def test_more_stages_than_coders_is_an_error():
    model = zoo.create("cascade_rcnn_nano", ious=(0.6, 0.65, 0.7))
    with pytest.raises(ValueError, match="coder_weights has 3 stages, but ious is for 4"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
