"""Ignored objects: what is predicted for them has no loss, unlike for background."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.models.detection.rcnn import small_model, small_targets
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.detection.parts.samples import AnchorSampling, RoiSampling, relabel
from zoo.ops.boxes import iou
from zoo.outputs import Targets

NEAR = jnp.array([[[10.0, 10, 30, 30], [12, 10, 32, 30], [40, 40, 60, 60], [43, 40, 63, 60]]])
FAR = jnp.array([[[1.0, 50, 9, 63], [50, 0, 60, 20]]])


def targets(ignored=True):
    """An object at the first two candidates, and a second one, ignored, at the next two."""
    return Targets(
        jnp.array([[[10.0, 10, 30, 30], [40, 40, 60, 60], [0, 0, 0, 0]]]),
        jnp.array([[1, 0, 0]]),
        jnp.array([[True, False, False]]),
        jnp.array([[64, 64]]),
        jnp.ones(1, bool),
        ignored=jnp.array([[False, ignored, False]]),
    )


@pytest.mark.parametrize(("sampling", "iou_at"), [("anchors", 0.3), ("regions", 0.5)])
def test_candidates_near_an_ignored_object_are_not_drawn(sampling, iou_at):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 45, (1, 300, 2))
    boxes = jnp.array(np.concatenate([low, low + rng.uniform(12, 19, (1, 300, 2))], axis=-1))
    boxes = jnp.concatenate([NEAR, FAR, boxes.astype(jnp.float32)], axis=1)
    overlaps = np.asarray(iou(boxes, targets().boxes))[0]

    def drawn(which):
        if sampling == "anchors":
            samples = AnchorSampling(num=400)(boxes[0], which, None)
            return set(np.asarray(samples.index[0][samples.drawn[0]]).tolist()), samples
        samples = RoiSampling(num=400, add_truth=False)(
            boxes, jnp.ones(boxes.shape[:2], bool), which, 3, None
        )
        rows = np.asarray(samples.boxes[0][samples.drawn[0]])
        return {int(abs(boxes[0] - row).sum(axis=1).argmin()) for row in rows}, samples

    kept, samples = drawn(targets())
    everything, plain = drawn(targets(ignored=False))
    near = set(np.flatnonzero(overlaps[:, 1] >= iou_at).tolist())
    assert {2, 3} <= near and len(near) > 4
    positive = overlaps[:, 0] >= (0.7 if sampling == "anchors" else 0.5)
    assert everything - kept == near - set(np.flatnonzero(positive).tolist())
    assert samples.positive.sum() == plain.positive.sum() >= 2


def test_a_positive_region_is_drawn_whatever_it_overlaps():
    here = targets().replace(
        boxes=jnp.array([[[10.0, 10, 30, 30], [11, 10, 31, 30], [0, 0, 0, 0]]])
    )
    samples = RoiSampling(num=8)(NEAR, jnp.ones((1, 4), bool), here, 3, None)
    assert samples.positive[0, :2].all() and samples.labels[0, 0] == 1
    again = relabel(NEAR, jnp.ones((1, 4), bool), targets(), 3, 0.6)
    assert again.drawn[0].tolist() == [True, True, False, False]
    assert again.positive[0].tolist() == [True, True, False, False]


@pytest.mark.slow
def test_the_loss_does_not_depend_on_the_label_of_an_ignored_object():
    """With anchors and regions that are all drawn; their gradient is that of the others."""
    sampling = {"num": 4000, "positive_fraction": 1.0}
    model, variables, losses = small_model(
        "fasterrcnn_nano",
        TwoStageLoss(),
        "objectness",
        anchor_sampling={"num": 4000},
        roi_sampling=sampling,
    )
    both = small_targets()
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))  # those of `small_model`
    apply = partial(model.apply, train=True, mutable=["batch_stats"])
    regions = jax.jit(apply)(variables, images, targets=both)[0].roi_samples.boxes[0]
    farthest = iou(regions, both.boxes[0]).max(axis=1).argmin()
    both = both.replace(boxes=both.boxes.at[0, 1].set(regions[farthest]))
    one = jnp.array([[True, False], [False, False]])
    other = jnp.array([[False, True], [False, False]])
    alone = both.replace(valid=one, ignored=other)
    gradient, found = losses(variables["params"], alone)
    for label in (1, 2):
        again, values = losses(
            variables["params"], alone.replace(labels=both.labels.at[0, 1].set(label))
        )
        jax.tree.map(np.testing.assert_array_equal, (gradient, found), (again, values))
    background = losses(variables["params"], both.replace(valid=one))[1]
    assert background["objectness"].weight > found["objectness"].weight > 0
    assert background["class"].weight > found["class"].weight > 0
    assert background["rpn_box"].total == found["rpn_box"].total  # positive anchors stay


def test_what_is_predicted_for_an_ignored_object_has_no_gradient():
    logits = jax.random.normal(jax.random.key(0), (1, 6))
    boxes = jnp.concatenate([NEAR, FAR], axis=1)

    def loss(logits, which):
        samples = AnchorSampling(num=8)(boxes[0], which, None)
        values = jnp.take_along_axis(logits, samples.index, axis=1)
        return jnp.where(samples.drawn, jax.nn.softplus(values), 0).sum()

    ignored = jax.grad(loss)(logits, targets())[0]
    assert not ignored[2:4].any() and (ignored[4:] != 0).all() and (ignored[:2] != 0).all()
    assert (jax.grad(loss)(logits, targets(ignored=False))[0] != 0).all()
