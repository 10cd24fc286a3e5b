"""CenterNet for people, against the outputs of the authors' code on drawn weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.models.detection.rcnn import assert_boxes_equal, assert_near, targets_of
from zoo.models.detection.centernet_pose.decode import decode, snapped, values_at
from zoo.models.detection.centernet_pose.loss import CenterNetPoseLoss
from zoo.models.detection.parts.centre_outputs import CenterNetPoseOutput
from zoo.types import InputError

NAMES = ("heat_logits", "sizes", "offsets", "joints", "joint_heat_logits", "joint_offsets")
LOSSES = {
    "hm": "heat",
    "wh": "size",
    "reg": "offset",
    "hps": "joint",
    "hm_hp": "joint_heat",
    "hp_offset": "joint_offset",
}


@pytest.fixture(scope="module")
def peer(golden):
    return golden("centernet_pose_centernet")


def output_of(peer):
    return CenterNetPoseOutput(**{name: jnp.asarray(peer.outputs[name]) for name in NAMES}, most=12)


def test_detections_and_joints_equal_the_authors(peer):
    output = output_of(peer)
    sizes = jnp.zeros((2, 2), int)
    found = jax.jit(decode)(output, sizes)
    assert assert_boxes_equal(peer, found) == [12, 12]
    for i in range(2):
        expected = peer.groups[f"detections/{i}/joints"]
        assert_near(found.keypoints[i, ..., :2], expected, "joints")
    plain = jax.jit(decode)(output.replace(joint_heat_logits=output.joint_heat_logits - 99), sizes)
    moved = (found.keypoints[..., :2] != plain.keypoints[..., :2]).any(axis=-1)
    assert 5 < moved.sum() < moved.size - 5  # some joints are at a peak, and some are not


def test_losses_equal_the_authors(peer):
    targets = targets_of(peer, keypoints=jnp.asarray(peer.groups["targets/keypoints"]))
    losses, _ = jax.jit(CenterNetPoseLoss().__call__)(output_of(peer), targets)
    assert losses.keys() == set(LOSSES.values())
    for theirs, ours in LOSSES.items():
        expected = peer.groups[f"losses/{theirs}"]
        assert expected > 1e-3
        # The authors add 1e-4 to the number of what is counted, which is at least 6.
        np.testing.assert_allclose(losses[ours].value(), expected, rtol=1e-4, err_msg=theirs)


def test_data_without_keypoints_are_named(peer):
    with pytest.raises(InputError, match=r"set data\.keypoints=true"):
        CenterNetPoseLoss()(output_of(peer), targets_of(peer))


@pytest.mark.parametrize(
    ("joint", "peak", "score", "expected"),
    [
        ((2.0, 2.0), (4, 3), 0.2, (4.5, 3.5)),  # near, and in the box
        ((2.0, 2.0), (4, 3), 0.05, (2.0, 2.0)),  # no peak
        ((2.0, 2.0), (8, 8), 0.9, (2.0, 2.0)),  # farther than 0.3 of the side
        ((9.5, 9.0), (10, 9), 0.9, (9.5, 9.0)),  # outside the box
    ],
)
def test_a_joint_goes_to_a_peak_that_fits(joint, peak, score, expected):
    heat = np.full((1, 12, 12, 1), 1e-3, np.float32)
    heat[0, peak[1], peak[0]] = score
    found = snapped(
        jnp.array(joint)[None, None, None],
        jnp.array([[[0.0, 0, 10, 10]]]),
        jnp.asarray(heat),
        jnp.full((1, 12, 12, 2), 0.5),
        1,
    )
    np.testing.assert_allclose(found[0, 0, 0], expected)


def test_the_score_of_a_joint_is_that_of_its_cell():
    heat = jnp.arange(24.0).reshape(1, 3, 4, 2)
    places = jnp.array([[[[3.9, 0.0], [0.2, 2.5]], [[-0.1, 1.0], [4.0, 1.0]]]])
    np.testing.assert_array_equal(values_at(heat, places)[0], [[6, 17], [0, 0]])
