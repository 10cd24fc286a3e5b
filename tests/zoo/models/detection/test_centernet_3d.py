"""CenterNet for boxes in space, against the outputs of the authors' code on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.models.detection.rcnn import assert_near, targets_of
from zoo.models.detection.centernet_3d.decode import alpha_of, depth_of, solids
from zoo.models.detection.centernet_3d.loss import CenterNet3DLoss, angle_bins
from zoo.models.detection.parts.centre_outputs import CenterNet3DOutput
from zoo.ops.cameras import box_corners, project
from zoo.outputs import Solids

NAMES = ("heat_logits", "sizes", "offsets", "depth_logits", "rotations", "dimensions")
LOSSES = {"hm": "heat", "wh": "size", "reg": "offset", "dep": "depth", "dim": "dimension"}
ROTATION = {"bins", "angle_0", "angle_1"}


@pytest.fixture(scope="module")
def peer(golden):
    return golden("centernet_3d_centernet")


def output_of(peer):
    return CenterNet3DOutput(**{name: jnp.asarray(peer.outputs[name]) for name in NAMES}, most=12)


def test_boxes_in_space_equal_the_authors(peer):
    cameras = jnp.tile(peer.groups["camera/matrix"], (2, 1, 1))
    found = jax.jit(solids)(output_of(peer), cameras)
    assert found.valid.all()
    for i in range(2):
        expected = {k: peer.groups[f"solids/{i}/{k}"] for k in ("labels", "scores", "boxes")}
        np.testing.assert_array_equal(found.labels[i], expected.pop("labels"))
        for name in ("scores", "boxes", "alphas", "dimensions", "locations", "rotations"):
            assert_near(getattr(found, name)[i], peer.groups[f"solids/{i}/{name}"], name)


def truth(peer):
    """The targets of the golden."""
    groups = {k: jnp.asarray(v) for k, v in peer.groups.items() if k.startswith("targets/")}
    boxes, labels = groups["targets/boxes"], groups["targets/labels"]
    parts = (groups[f"targets/{name}"] for name in ("alphas", "dimensions", "locations"))
    ones = jnp.ones(labels.shape)
    return targets_of(
        peer, solids=Solids(boxes, ones, labels, ones > 0, *parts, rotations=0 * ones)
    )


def test_losses_equal_the_authors(peer):
    """Of as many objects in each image as the authors' arrays hold."""
    losses, _ = jax.jit(CenterNet3DLoss().__call__)(output_of(peer), truth(peer))
    assert losses.keys() == set(LOSSES.values()) | ROTATION
    for theirs, ours in LOSSES.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)
    found = sum(losses[name].value() for name in ROTATION)
    np.testing.assert_allclose(found, peer.groups["losses/rot"], rtol=1e-4)
    assert all(losses[name].value() > 0 for name in ROTATION)


def test_data_without_boxes_in_space_teach_the_others(peer):
    losses, _ = jax.jit(CenterNet3DLoss().__call__)(output_of(peer), targets_of(peer))
    assert losses.keys() == {"heat", "size", "offset"}


def test_an_angle_is_decoded_from_what_the_loss_wants():
    alphas = jnp.linspace(-3.1, 3.1, 25)
    parts = []
    for inside, centre in angle_bins(alphas):
        logits = jnp.stack([-1.0 * inside, 1.0 * inside], axis=-1)
        angle = alphas - centre
        parts += [logits, jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)]
    found = alpha_of(jnp.concatenate(parts, axis=-1))
    np.testing.assert_allclose(jnp.cos(found - alphas), 1, atol=1e-5)


def test_a_box_is_seen_where_it_was_found(peer):
    """The middle of the box in space is seen in the middle of the box in the image."""
    cameras = jnp.tile(peer.groups["camera/matrix"], (2, 1, 1))
    found = solids(output_of(peer), cameras)
    corners = box_corners(found.dimensions, found.locations, found.rotations)
    seen = project(corners.mean(axis=2), cameras)
    centres = (found.boxes[..., :2] + found.boxes[..., 2:]) / 2
    np.testing.assert_allclose(seen, centres, rtol=1e-3, atol=1e-2)


def test_depths_are_positive_and_fall():
    depths = depth_of(jnp.linspace(-8, 8, 17))
    assert (depths[:-1] > depths[1:]).all() and depths[8] == pytest.approx(1, abs=1e-4)
