import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.conftest import read_golden
from tests.zoo.models.detection.dense import output_of
from tests.zoo.models.detection.rcnn import assert_near, sizes_of, targets_of
from zoo.models.detection.extremenet.decode import (
    ExtremeDecoding,
    ExtremeOutput,
    decode,
    suppress_ghosts,
)
from zoo.models.detection.extremenet.loss import ExtremeNetLoss
from zoo.models.detection.parts.keypoint_loss import place_points, wanted_heat
from zoo.outputs import Detections, Targets
from zoo.types import InputError


def masks_with(points, valid, size):
    """Masks whose extreme points are given whole numbers: crosses of two lines.

    The lower and right points end at the pixel after these numbers' pixels, less one.
    """
    masks = np.zeros((*valid.shape, *size), bool)
    for i, j in zip(*np.nonzero(valid), strict=True):
        (tx, ty), (lx, ly), (bx, by), (rx, ry) = points[i, j].astype(int)
        masks[i, j, ty, tx - 1 : tx + 1] = True
        masks[i, j, by - 1, bx - 1 : bx + 1] = True
        masks[i, j, ly - 1 : ly + 1, lx] = True
        masks[i, j, ry - 1 : ry + 1, rx - 1] = True
    return jnp.asarray(masks)


@pytest.fixture(scope="module")
def whole():
    """The golden, our output, and the targets with masks."""
    peer = read_golden("extremenet_authors")
    targets = targets_of(peer)
    masks = masks_with(peer.groups["targets/points"], np.asarray(targets.valid), (45, 60))
    return peer, output_of(peer), targets.replace(masks=masks)


def test_groups_and_detections_equal_the_authors(whole):
    """The suppressions are those of the golden's own loops."""
    peer, output, _ = whole
    groups = jax.jit(output.decoding.groups)(output)
    found = jax.jit(decode)(output, sizes_of(peer.inputs[1]))
    for i in range(2):
        expected = {k: peer.groups[f"groups/{i}/{k}"] for k in ("boxes", "scores", "labels")}
        count = len(expected["scores"])
        assert count == groups.candidates.good[i].sum() > 5
        for name, value in expected.items():
            assert_near(getattr(groups.candidates, name)[i][:count], value, name)
        points = groups.points[i, :count, :, :2]
        assert_near(points, peer.groups[f"groups/{i}/points"], "points")
        count = len(peer.groups[f"detections/{i}/scores"])
        assert count == found.valid[i].sum()
        for name in ("boxes", "scores", "labels"):
            expected = peer.groups[f"detections/{i}/{name}"]
            assert_near(getattr(found, name)[i][:count], expected, name)


def test_heat_maps_and_losses_equal_the_authors(whole):
    """Theirs add 1e-4 to the number of objects, hence the tolerance of 2e-4."""
    peer, output, targets = whole
    loss = ExtremeNetLoss(share=0.0)
    points = loss.points(targets)
    where = np.asarray(targets.valid)
    np.testing.assert_array_equal(points[where][:, :4], peer.groups["targets/points"][where])
    objects = targets.boxes, targets.labels, targets.valid
    for kind in range(5):
        placed = place_points(points[:, :, kind], output.scale, (12, 16))
        wanted = wanted_heat(placed, *objects, output.scale, (12, 16), 2, loss.iou)
        np.testing.assert_allclose(wanted, peer.groups["wanted/heat"][:, kind], atol=1e-6)
    losses, metrics = jax.jit(loss.__call__)(output, targets)
    total = float(sum(mean.value() for mean in losses.values()))
    assert total == pytest.approx(float(peer.groups["losses/total"][0]), rel=2e-4)
    assert min(float(mean.value()) for mean in losses.values()) > 1e-3
    assert 0 <= metrics["class_accuracy"].value() <= 1


def test_parts_of_a_batch_add_up(whole):
    _, output, targets = whole
    loss = jax.jit(ExtremeNetLoss().__call__)
    both = loss(output, targets)[0]
    parts = [loss(output, targets.replace(image_valid=jnp.arange(2) == i))[0] for i in range(2)]
    for name, mean in both.items():
        part = parts[0][name] + parts[1][name]
        np.testing.assert_allclose(part.total, mean.total, rtol=1e-5)
        np.testing.assert_allclose(part.weight, mean.weight, rtol=1e-6)


def test_masks_are_needed(whole):
    _, output, targets = whole
    with pytest.raises(InputError, match=r"set data\.masks=true"):
        ExtremeNetLoss()(output, targets.replace(masks=None))
    with pytest.raises(InputError, match=r"loss\.share is -1.0"):
        ExtremeNetLoss(share=-1.0)


def perfect(masks, boxes, labels, **decoding):
    """The output of a perfect detector with a stride of 4 pixels, and the extreme points."""
    yes = jnp.ones(labels.shape, bool)
    sizes = jnp.array([[64, 64]])
    targets = Targets(boxes, labels, yes, sizes, jnp.ones(1, bool), jnp.asarray(masks))
    loss, scale = ExtremeNetLoss(), (0.25, 0.25)
    points = loss.points(targets)
    heat, offsets = [], np.zeros((1, 1, 4, 16, 16, 2), np.float32)
    for kind in range(5):
        placed = place_points(points[:, :, kind], scale, (16, 16))
        heat.append(wanted_heat(placed, boxes, labels, yes, scale, (16, 16), 3, 0.7))
        for j in range(labels.shape[1] if kind < 4 else 0):
            x, y = placed.places[0, j]
            offsets[0, 0, kind, y, x] = placed.offsets[0, j]
    logits = jnp.log(jnp.stack(heat, axis=1)[:, None] * 0.98 + 0.01)
    logits -= jnp.log1p(-jnp.exp(logits))
    rule = ExtremeDecoding(points=6, **decoding)
    return ExtremeOutput(logits, jnp.asarray(offsets), scale, rule), points


def test_the_maps_that_the_loss_wants_give_the_objects():
    masks = np.zeros((1, 2, 64, 64), bool)
    masks[0, 0, 8:30, 10:34] = True
    masks[0, 1, 31:61, 36:50] = True
    boxes = jnp.array([[[10.0, 8, 34, 30], [36, 31, 50, 61]]])
    labels = jnp.array([[2, 0]])
    output, points = perfect(masks, boxes, labels)
    found = jax.jit(decode)(output, jnp.array([[64, 64]]))
    order = np.argsort(-np.asarray(found.labels[0, :2]))
    np.testing.assert_allclose(found.boxes[0, :2][order], boxes[0], atol=1e-3)
    np.testing.assert_allclose(found.keypoints[0, :2, :, :2][order], points[0, :, :4], atol=1e-3)
    np.testing.assert_array_equal(found.labels[0, :2][order], labels[0])
    assert found.valid.sum() == 2


def test_refined_centres_find_small_objects():
    """The sides are in the last pixels of columns 2 and 5: their middle is in column 3, or 4."""
    masks = np.zeros((1, 1, 64, 64), bool)
    masks[0, 0, 11:19, 11:23] = True
    boxes, labels = jnp.array([[[11.0, 11, 23, 19]]]), jnp.array([[1]])
    for refined in (False, True):
        output, _ = perfect(masks, boxes, labels, refined_centres=refined)
        found = jax.jit(decode)(output, jnp.array([[64, 64]]))
        assert found.valid.sum() == refined
    np.testing.assert_allclose(found.boxes[0, 0], boxes[0, 0], atol=1e-3)


def test_ghosts_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 20, (3, 40, 2, 2)), axis=2).reshape(3, 40, 4)
    scores = -np.sort(-rng.random((3, 40)), axis=1)
    labels, valid = rng.integers(0, 2, (3, 40)), rng.random((3, 40)) < 0.8
    parts = (jnp.float32(corners), jnp.float32(scores), jnp.asarray(labels), jnp.asarray(valid))
    found = jax.jit(suppress_ghosts, static_argnums=1)(Detections(*parts), 3.0)
    halved = 0
    for i, own in enumerate(scores.astype(np.float32)):
        for k in range(40):
            boxes = corners[i]
            inside = (boxes[:, :2] >= boxes[k, :2]).all(1) & (boxes[:, 2:] <= boxes[k, 2:]).all(1)
            inside &= (labels[i] == labels[i, k]) & valid[i]
            if own[k] > 0.2 and own[inside].sum() > 3 * own[k]:
                own[k] /= 2
                halved += 1
        np.testing.assert_allclose(found[i], own, rtol=1e-6)
    assert halved > 3


def test_shapes_of_the_small_model():
    model = zoo.create("extremenet_nano", num_classes=3)
    assert model.make_trunk().coarsest_stride == 16
    images = jax.ShapeDtypeStruct((1, 64, 60, 3), jnp.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert output.heat.shape == (1, 1, 5, 16, 16, 3)
    assert output.offsets.shape == (1, 1, 4, 16, 16, 2)
