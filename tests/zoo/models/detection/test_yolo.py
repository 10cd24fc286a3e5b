"""The YOLOs' detections and losses, against darknet's own program and mmdet on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.dense import assert_detections_equal, output_of
from tests.zoo.models.detection.rcnn import assert_near, sizes_of, small_targets, targets_of
from zoo.models.detection.parts.yolo_loss import DARKNET_V2, MMDET, YoloLoss
from zoo.models.detection.yolov1.loss import YoloV1Loss
from zoo.registry import family_of
from zoo.types import InputError

slow = pytest.mark.slow
CASES = [
    pytest.param("yolov1_darknet_local", YoloV1Loss(), marks=slow),
    ("yolov1_darknet_tiny", YoloV1Loss()),
    ("yolov2_darknet", DARKNET_V2),
    pytest.param("yolov2_darknet_tiny", YoloLoss(ignore=0.6, object_weight=5.0), marks=slow),
    pytest.param("yolov3_darknet", YoloLoss(), marks=slow),
    pytest.param("yolov3_darknet_spp", YoloLoss(), marks=slow),
    ("yolov3_darknet_tiny", YoloLoss()),
]
PARTS = ("logits", "deltas", "objectness")


@pytest.mark.parametrize(("case", "loss"), CASES)
def test_detections_and_gradients_are_darknets(golden, case, loss):
    """Darknet computes no loss, but its negative gradient, which it calls delta."""
    peer = golden(case)
    output, targets = output_of(peer), targets_of(peer)
    found = jax.jit(family_of(peer.model).decode)(output, sizes_of(peer.inputs[1]))
    for i in range(2):
        expected = {k: peer.groups[f"detections/{i}/{k}"] for k in ("boxes", "scores", "labels")}
        areas = (expected["boxes"][:, 2:] - expected["boxes"][:, :2]).prod(axis=1)
        expected = {k: x[areas > 0] for k, x in expected.items()}
        count = len(expected["scores"])
        assert count >= 3
        assert found.valid[i].sum() == count
        order = np.lexsort((expected["labels"], -expected["scores"]))
        np.testing.assert_array_equal(found.labels[i][:count], expected["labels"][order])
        for name in ("boxes", "scores"):
            assert_near(getattr(found, name)[i][:count], expected[name][order], name)

    @jax.jit
    def gradients(parts):
        def total(parts):
            losses, _ = loss(output.replace(**parts), targets)
            return sum(mean.total for mean in losses.values())

        return jax.grad(total)(parts)

    steps = gradients({name: getattr(output, name) for name in PARTS})
    for name, step in steps.items():
        expected = peer.groups[f"steps/{name}"]
        if isinstance(loss, YoloV1Loss):  # its paper has no factor of 1/2 before the squares
            step, expected = -step / 2, np.asarray(expected)
            if name == "logits":  # those of a cell are repeated for its boxes
                count = peer.model.num_boxes
                step, expected = (
                    np.asarray(x).reshape(2, -1, count, x.shape[-1]) for x in (step, expected)
                )
                step, expected = step.sum(axis=2), expected[:, :, 0]
        else:
            step = -step
        assert np.abs(expected).max() > 0.1
        assert_near(step, expected, name)


def test_detections_and_losses_are_mmdets(golden):
    peer = golden("yolov3_mmdet")
    assert_detections_equal(peer)
    losses, metrics = jax.jit(MMDET.__call__)(output_of(peer), targets_of(peer))
    names = {"loss_cls": "class", "loss_conf": "objectness", "loss_xy": "place", "loss_wh": "size"}
    assert set(losses) == set(names.values())
    for theirs, ours in names.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 0.1
        np.testing.assert_allclose(losses[ours].total, expected, rtol=1e-4, err_msg=theirs)
    assert metrics["matched_objects"].value() == 1
