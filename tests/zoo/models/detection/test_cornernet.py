import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.detection.dense import output_of
from tests.zoo.models.detection.rcnn import assert_near, sizes_of, small_targets, targets_of
from zoo.models.detection.cornernet.decode import CornerDecoding, CornerOutput, decode
from zoo.models.detection.cornernet.loss import CornerNetLoss, tag_losses
from zoo.models.detection.parts.keypoint_loss import place_points, wanted_heat
from zoo.types import InputError

FIND = jax.jit(decode)
IMAGES = 2  # of a golden; the authors and mmdet add the losses of embeddings over images
LOSS = CornerNetLoss(pull_weight=0.1 * IMAGES, push_weight=0.1 * IMAGES)


def cells(peer):
    """Height and width of a golden's maps, and cells for a pixel."""
    rows, columns = peer.outputs["heat"].shape[3:5]
    return (rows, columns), (columns / (4 * columns - 1), rows / (4 * rows - 1))


@pytest.mark.parametrize("case", ["cornernet_authors", "cornernet_mmdet"])
def test_pairs_and_detections_equal_the_peers(golden, case):
    """The suppression is that of the golden's own loop over boxes; mmdet's pairs begin at 0."""
    peer = golden(case)
    output = output_of(peer)
    assert output.scale == pytest.approx(cells(peer)[1])
    pairs = jax.jit(output.decoding.pairs)(output)
    pairs = pairs._replace(boxes=jnp.maximum(pairs.boxes, 0))
    found = FIND(output, sizes_of(peer.inputs[1]))
    for i in range(IMAGES):
        assert_rows_equal(peer, f"pairs/{i}", pairs, pairs.good[i], i)
        assert_rows_equal(peer, f"detections/{i}", found, found.valid[i], i)


def assert_rows_equal(peer, name, found, good, i):
    expected = {k: peer.groups[f"{name}/{k}"] for k in ("boxes", "scores", "labels")}
    expected["boxes"] = np.maximum(expected["boxes"], 0)
    count = len(expected["scores"])
    assert count > 8
    assert good.sum() == good[:count].sum() == count
    np.testing.assert_array_equal(found.labels[i][:count], expected["labels"])
    for part in ("boxes", "scores"):
        assert_near(getattr(found, part)[i][:count], expected[part], f"{name}/{part}")


def test_heat_maps_and_losses_equal_the_authors(golden):
    """Theirs add 1e-4 to the numbers that they divide by, hence the tolerance of 2e-4.

    Without rounding, the maps differ where their formula is more precise than float32.
    """
    peer = golden("cornernet_authors")
    targets, (shape, scale) = targets_of(peer), cells(peer)
    for place, name in ((0, "tl"), (2, "br")):
        placed = place_points(targets.boxes[..., place : place + 2], scale, shape)
        objects = targets.boxes, targets.labels, targets.valid
        wanted = wanted_heat(placed, *objects, scale, shape, 2, 0.3)
        expected = peer.groups[f"wanted/{name}"]
        assert (expected == 1).sum() == targets.valid.sum()
        np.testing.assert_allclose(wanted, expected, atol=1e-6)
    losses, metrics = jax.jit(LOSS.__call__)(output_of(peer), targets)
    losses = {name: float(mean.value()) for name, mean in losses.items()}
    near = functools.partial(pytest.approx, rel=2e-4, abs=2e-4)
    assert losses["pull"] == near(0.1 * float(peer.groups["losses/pull"]))
    assert losses["push"] == near(0.1 * float(peer.groups["losses/push"]))
    assert sum(losses.values()) == near(float(peer.groups["losses/total"][0]))
    assert min(losses.values()) > 1e-3
    assert 0 <= metrics["class_accuracy"].value() <= 1


def test_losses_equal_mmdets(golden):
    """mmdet adds over two hourglasses, but takes the mean of both corners."""
    peer = golden("cornernet_mmdet")
    losses, _ = jax.jit(LOSS.__call__)(output_of(peer), targets_of(peer))
    found = {name: float(mean.value()) for name, mean in losses.items()}
    theirs = {name: float(peer.groups[f"losses/{name}_loss"]) for name in ("det", "off")}
    assert found["top_left"] + found["bottom_right"] == pytest.approx(theirs["det"], rel=1e-4)
    assert found["offset"] == pytest.approx(theirs["off"], rel=1e-4)
    for name in ("pull", "push"):
        expected = float(peer.groups[f"losses/{name}_loss"])
        assert 2 * found[name] == pytest.approx(expected, rel=1e-4)
        assert expected > 1e-3


def test_embedding_losses_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    tags, count = rng.normal(size=(3, 2, 5, 2)), (5, 1, 0)
    objects = np.arange(5) < np.array(count)[:, None]
    pull, push = tag_losses(jnp.float32(tags), jnp.asarray(objects))
    for i, n in enumerate(count):
        middle = tags[i].mean(axis=-1)
        pulls = [((tags[i, s, j] - middle[s, j]) ** 2).sum() for s in range(2) for j in range(n)]
        pairs = [(s, j, k) for s in range(2) for j in range(n) for k in range(n) if j != k]
        pushes = [max(0, 1 - abs(middle[s, j] - middle[s, k])) for s, j, k in pairs]
        assert pull[i] == pytest.approx(sum(pulls) / max(2 * n, 1), rel=1e-5)
        assert push[i] == pytest.approx(sum(pushes) / max(2 * n * (n - 1), 1), rel=1e-5)


def maps_of(boxes, labels, tags, num_classes=3, side=16):
    """The output of a perfect detector with a stride of 4 pixels."""
    shape, scale = (side, side), (0.25, 0.25)
    heat = np.full((1, 1, 2, side, side, num_classes), -20.0)
    embeddings = np.zeros((1, 1, 2, side, side)) + np.array([-9, 9])[:, None, None]
    offsets = np.zeros((1, 1, 2, side, side, 2))
    for kind, place in enumerate((0, 2)):
        placed = place_points(jnp.asarray(boxes[None, :, place : place + 2]), scale, shape)
        for j, (x, y) in enumerate(np.asarray(placed.places[0])):
            heat[0, 0, kind, y, x, labels[j]] = 5 + j
            embeddings[0, 0, kind, y, x] = tags[j]
            offsets[0, 0, kind, y, x] = placed.offsets[0, j]
    heat, embeddings, offsets = (jnp.float32(x) for x in (heat, embeddings, offsets))
    decoding = CornerDecoding(corners=10, candidates=50)
    return CornerOutput(heat, embeddings, offsets, scale, decoding)


def test_perfect_maps_give_the_objects():
    """With equal embeddings, every corner also pairs with that of the other object."""
    boxes = np.array([[3, 5, 20, 31.5], [9, 9, 64, 64], [30, 8, 50.25, 40]], np.float32)
    labels, sizes = np.array([0, 0, 2]), jnp.array([[64, 64]])
    found = FIND(maps_of(boxes, labels, [0.0, 1, 0]), sizes)
    assert found.valid.sum() == 3
    np.testing.assert_allclose(found.boxes[0, :3], boxes[::-1], atol=1e-4)
    np.testing.assert_array_equal(found.labels[0, :3], labels[::-1])
    mixed = FIND(maps_of(boxes, labels, [0.0, 0, 0]), sizes)
    assert mixed.valid.sum() == 5
    other = FIND(maps_of(boxes[:2], np.array([0, 1]), [0.0, 0]), sizes)
    assert other.valid.sum() == 2


def test_boxes_are_clipped_to_the_image_without_padding():
    boxes = np.array([[9, 9, 64, 64]], np.float32)
    found = FIND(maps_of(boxes, np.array([1]), [0.0]), jnp.array([[40, 50]]))
    np.testing.assert_allclose(found.boxes[0, 0], [9, 9, 50, 40], atol=1e-4)


@pytest.fixture(scope="module")
def nano():
    """The output of a small model for two images, their objects, and the compiled loss."""
    model = zoo.create("cornernet_nano", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    output = jax.jit(model.apply)(variables, images)
    return output, small_targets(), jax.jit(CornerNetLoss().__call__)


def test_parts_of_a_batch_add_up(nano):
    output, targets, loss = nano
    both = loss(output, targets)[0]
    parts = [loss(output, targets.replace(image_valid=jnp.arange(2) == i))[0] for i in range(2)]
    for name, whole in both.items():
        part = parts[0][name] + parts[1][name]
        np.testing.assert_allclose(part.total, whole.total, rtol=1e-5)
        np.testing.assert_allclose(part.weight, whole.weight, rtol=1e-6)
        assert whole.value() > 0


def test_without_objects_only_the_heat_maps_have_a_loss(nano):
    output, targets, loss = nano
    empty = targets.replace(valid=jnp.zeros_like(targets.valid))
    losses, metrics = loss(output, empty)
    values = {name: float(mean.value()) for name, mean in losses.items()}
    assert values.pop("top_left") > 0 < values.pop("bottom_right")
    assert set(values.values()) == {0}
    assert {float(mean.value()) for mean in metrics.values()} == {0}


def test_odd_sides_are_one_pixel_less_than_a_multiple():
    fields = {"hourglass_fields": {"dims": (4, 4, 4), "num_blocks": (1, 1, 1), "num_stacks": 1}}
    for odd, size, rows in ((True, 47, 12), (True, 48, 16), (False, 48, 12), (False, 47, 12)):
        model = zoo.create("cornernet_nano", odd_sides=odd, **fields)
        images = jax.ShapeDtypeStruct((1, size, 64, 3), jnp.float32)
        output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
        assert output.heat.shape[3] == rows
        assert output.scale[1] == pytest.approx(rows / (4 * rows - odd))


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"loss\.pull_weight is -1.0"):
        CornerNetLoss(pull_weight=-1.0)
