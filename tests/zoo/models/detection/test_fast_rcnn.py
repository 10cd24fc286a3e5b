"""Fast R-CNN's parts, against detectron2's outputs on drawn weights: see `test_goldens`, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import zoo
from tests.zoo.models.detection.rcnn import (
    assert_boxes_equal,
    assert_losses_equal,
    detections_of,
    small_model,
    small_targets,
    targets_of,
)
from zoo.models.detection.parts.decode import region_rois
from zoo.models.detection.parts.region_loss import RegionLoss
from zoo.ops.roi_pool import roi_pool
from zoo.outputs import Proposals
from zoo.types import InputError

NAMES = {"loss_cls": "class", "loss_box_reg": "box"}
BOXES = jnp.array([[[4.0, 6, 30, 40], [-9, 20, 20, 90], [40, 70, 60, 90], [8, 8, 20, 30]]] * 2)
GIVEN = Proposals(BOXES, jnp.array([[True, True, True, False]] * 2))


@pytest.fixture(scope="module")
def peer(golden):
    return golden("fast_rcnn_detectron2")


def test_detections_equal_the_peers(peer):
    assert_boxes_equal(peer, detections_of(peer, region_rois))


def test_losses_equal_the_peers_for_the_same_samples(peer):
    assert_losses_equal(peer, RegionLoss(box_beta=0.0), targets_of(peer), NAMES)


@pytest.fixture(scope="module")
def small():
    """The nano for an image of 64 px and one of 48 x 40, its variables, and its outputs."""
    model = zoo.create("fastrcnn_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    valid = jnp.ones((2, 64, 64), bool).at[1, 48:].set(False).at[1, :, 40:].set(False)
    variables = jax.jit(model.init)(jax.random.key(1), images)
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(2)
    drawn = [jnp.float32(rng.normal(leaf, 0.1)) for leaf in leaves]
    variables = jax.tree.unflatten(tree, drawn)
    return model, variables, images, valid


def test_given_regions_are_clipped_and_empty_ones_left_out(small):
    output = jax.jit(small[0].apply)(*small[1:], GIVEN)
    assert output.proposals[0, 1].tolist() == [0, 20, 20, 64]
    assert output.proposals[1, 1].tolist() == [0, 20, 20, 48]
    expected = [[True, True, False, False], [True, True, False, False]]
    assert output.proposals_valid.tolist() == expected
    found = region_rois(output, jnp.array([[64, 64], [48, 40]]))
    assert found.valid.any()
    assert (found.boxes[1][found.valid[1]] <= jnp.array([40, 48, 40, 48])).all()


def test_regions_are_pooled_from_the_last_map(small):
    model, variables, images = small[:3]
    seen = {}

    def keep(next_method, args, kwargs, context):
        if context.module.name == "head" and context.method_name == "__call__":
            seen["pooled"] = args[0]
        return next_method(*args, **kwargs)

    with nn.intercept_methods(keep):
        model.apply(variables, images, None, GIVEN)
    maps = model.apply(variables, images, method=lambda m, x: m.body.feature_maps(x))
    assert maps[-1].shape == (2, 16, 16, 96)
    boxes, used = jnp.clip(BOXES, 0, 64), jnp.array([[0, 0, -1, -1]] * 2)
    expected = roi_pool(maps[-1:], boxes, used, strides=(4,), size=5)
    np.testing.assert_allclose(seen["pooled"], expected, rtol=0, atol=1e-4)


def test_without_proposals_windows_of_every_image_are_classified(small):
    model, variables, images, valid = small
    output = jax.jit(model.apply)(variables, images, valid)
    boxes, used = np.asarray(output.proposals), np.asarray(output.proposals_valid)
    assert used[0].all() and 10 < used[1].sum() < used.shape[1]
    assert (boxes[1, used[1]] <= [40, 48, 40, 48]).all()


def test_background_has_a_lower_bound():
    """Of regions of training, those that overlap an object a little are background."""
    model, variables, _ = small_model("fastrcnn_nano", RegionLoss(), "box")
    boxes = jnp.array([[[8.0, 8, 30, 36], [8, 8, 30, 16], [0, 40, 9, 64], [12, 8, 34, 36]]])
    given = Proposals(jnp.repeat(boxes, 2, 0), jnp.ones((2, 4), bool))
    images = jnp.zeros((2, 64, 64, 3))
    output, _ = model.apply(
        variables, images, None, given, targets=small_targets(), train=True, mutable=["batch_stats"]
    )
    samples = output.roi_samples
    kept = np.asarray(samples.boxes[0][samples.drawn[0]])
    assert [8, 8, 30, 16] in kept.tolist()  # IoU 0.29
    assert [0, 40, 9, 64] not in kept.tolist()  # IoU 0
    assert samples.positive[0].sum() == 4  # two regions, and the two objects
    assert samples.drawn[1].sum() == 0  # all IoUs are 0 in an image without objects


def test_losses_reject_negative_weights_and_svms():
    with pytest.raises(InputError, match="box_weight"):
        RegionLoss(box_weight=-1.0)
    model = zoo.create("rcnn_nano", num_classes=3, classifier="svm")
    images = jnp.zeros((2, 64, 64, 3))
    output = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), images, targets=small_targets(), train=True
        )[0]
    )
    with pytest.raises(InputError, match="svms"):
        RegionLoss()(output, small_targets())
