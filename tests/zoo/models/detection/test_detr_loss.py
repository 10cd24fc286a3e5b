"""DETR's losses equal a second computation in double precision with scipy's matching."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import linear_sum_assignment

from zoo.models.detection.detr.loss import (
    DetrLoss,
    SetLosses,
    mask_losses,
    matching_costs,
    set_losses,
)
from zoo.models.detection.detr.model import DetrOutput
from zoo.outputs import Targets
from zoo.types import InputError

LAYERS, BATCH, QUERIES, CLASSES, TARGETS = 3, 4, 7, 5, 5
COUNTS = (3, 0, 5, 1)  # number of targets of each image
losses_of = jax.jit(set_losses)


@dataclasses.dataclass
class Case:
    logits: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    valid: np.ndarray

    @property
    def arguments(self):
        return tuple(map(jnp.asarray, dataclasses.astuple(self)))


def boxes(rng, *shape):
    return np.concatenate(
        [rng.uniform(0.2, 0.8, (*shape, 2)), rng.uniform(0.05, 0.6, (*shape, 2))], axis=-1
    )


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    valid = np.arange(TARGETS) < np.array(COUNTS)[:, None]
    return Case(
        np.float32(rng.normal(size=(LAYERS, BATCH, QUERIES, CLASSES + 1))),
        np.float32(boxes(rng, LAYERS, BATCH, QUERIES)),
        np.where(valid, rng.integers(0, CLASSES, (BATCH, TARGETS)), 0).astype(np.int32),
        np.float32(boxes(rng, BATCH, TARGETS) * valid[..., None]),
        valid,
    )


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def giou(a, b):
    """The GIoU of two boxes, cxcywh."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    spans = [
        (cx - w / 2, cx + w / 2, dx - v / 2, dx + v / 2)
        for cx, w, dx, v in ((ax, aw, bx, bw), (ay, ah, by, bh))
    ]
    inter = np.prod([max(0.0, min(a1, b1) - max(a0, b0)) for a0, a1, b0, b1 in spans])
    hull = np.prod([max(a1, b1) - min(a0, b0) for a0, a1, b0, b1 in spans])
    union = aw * ah + bw * bh - inter
    return inter / union - (hull - union) / hull


def reference(case, logits, predicted):
    """Totals and normalisers as in `SetLosses`, computed image by image and pair by pair."""
    sums = {name: np.zeros(LAYERS) for name in ("classes", "l1", "giou")}
    weight = 0.0
    for layer in range(LAYERS):
        weight = 0.0
        for i, count in enumerate(COUNTS):
            p = softmax(logits[layer, i])
            pairs = [
                [
                    5 * np.abs(box - case.targets[i, j]).sum()
                    - p[q, case.labels[i, j]]
                    - 2 * giou(box, case.targets[i, j])
                    for j in range(count)
                ]
                for q, box in enumerate(predicted[layer, i])
            ]
            rows, columns = linear_sum_assignment(np.reshape(pairs, (QUERIES, count)))
            wanted = np.full(QUERIES, CLASSES)
            wanted[rows] = case.labels[i, columns]
            w = np.where(wanted == CLASSES, 0.1, 1.0)
            sums["classes"][layer] -= (w * np.log(p[np.arange(QUERIES), wanted])).sum()
            weight += w.sum()
            for q, j in zip(rows, columns, strict=True):
                box, target = predicted[layer, i, q], case.targets[i, j]
                sums["l1"][layer] += np.abs(box - target).sum()
                sums["giou"][layer] += 1 - giou(box, target)
    return {**sums, "class_weight": weight, "num_boxes": sum(COUNTS)}


def total(parts):
    """The sum of the losses with the weights of the paper."""
    n = parts["num_boxes"]
    boxes = 5 * parts["l1"].sum() / n + 2 * parts["giou"].sum() / n
    return parts["classes"].sum() / parts["class_weight"] + boxes


def test_sums_are_those_of_an_independent_computation(case):
    ours = losses_of(*case.arguments)
    theirs = reference(case, case.logits.astype(float), case.boxes.astype(float))
    for name, expected in theirs.items():
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-5, err_msg=name)
    assert ours.num_images == BATCH


def test_gradients_are_those_of_an_independent_computation(case):
    def objective(logits, predicted):
        parts = set_losses(logits, predicted, *case.arguments[2:])
        return total(vars(parts))

    grads = jax.jit(jax.grad(objective, argnums=(0, 1)))(*case.arguments[:2])
    inputs = [case.logits.astype(float), case.boxes.astype(float)]
    rng = np.random.default_rng(1)
    for argument, grad in enumerate(grads):
        for _ in range(8):
            direction = rng.normal(size=grad.shape)
            ends = []
            for step in (-1e-6, 1e-6):  # too small to change the matching
                moved = list(inputs)
                moved[argument] = moved[argument] + step * direction
                ends.append(total(reference(case, *moved)))
            slope = (ends[1] - ends[0]) / 2e-6
            np.testing.assert_allclose((grad * direction).sum(), slope, rtol=2e-4, atol=2e-4)


def test_matching_costs_are_those_of_an_independent_computation(case):
    costs = jax.jit(partial(matching_costs, class_cost=3.0, l1_cost=0.5, giou_cost=0.25))(
        *case.arguments[:4]
    )
    assert costs.shape == (LAYERS, BATCH, QUERIES, TARGETS)
    for index in ((0, 0, 3, 2), (2, 2, 6, 4), (1, 3, 0, 0)):
        layer, i, q, j = index
        box, target = case.boxes[layer, i, q], case.targets[i, j]
        expected = (
            0.5 * np.abs(box - target).sum()
            - 3 * softmax(case.logits[layer, i, q])[case.labels[i, j]]
            - 0.25 * giou(box, target)
        )
        np.testing.assert_allclose(costs[index], expected, rtol=1e-5)


def test_no_objects_at_all(case):
    case.valid[:] = False

    def objective(logits, predicted):
        parts = set_losses(logits, predicted, *case.arguments[2:])
        return parts.classes.sum() + parts.l1.sum() + parts.giou.sum(), parts

    grads, parts = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))(*case.arguments[:2])
    expected = -np.log(softmax(case.logits.astype(float))[..., -1]).sum(axis=(1, 2)) * 0.1
    np.testing.assert_allclose(parts.classes, expected, rtol=1e-5)
    np.testing.assert_allclose(parts.class_weight, 0.1 * BATCH * QUERIES, rtol=1e-5)
    assert (parts.num_boxes, parts.l1.sum(), parts.giou.sum()) == (0, 0, 0)
    assert np.isfinite(grads[0]).all() and not grads[1].any()


def add(parts: list[SetLosses]) -> dict:
    """Adds the losses of batches of one; the result must equal those of the whole batch."""
    names = [name for name in vars(parts[0]) if name != "queries"]
    return {name: sum(np.asarray(getattr(part, name)) for part in parts) for name in names}


def test_batched_equals_the_sum_of_singles(case):
    batched = losses_of(*case.arguments)
    logits, predicted, *rest = case.arguments
    singles = [
        losses_of(logits[:, i : i + 1], predicted[:, i : i + 1], *(x[i : i + 1] for x in rest))
        for i in range(BATCH)
    ]
    for name, expected in add(singles).items():
        np.testing.assert_allclose(getattr(batched, name), expected, rtol=1e-5, err_msg=name)
    queries = np.concatenate([part.queries for part in singles], axis=1)
    np.testing.assert_array_equal(batched.queries, queries)


def assert_same(a: SetLosses, b: SetLosses):
    for name in vars(a):
        if name != "queries":
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-5, err_msg=name)


def test_order_and_padding_of_targets_do_not_matter(case):
    logits, predicted, *targets = case.arguments
    plain = losses_of(logits, predicted, *targets)
    order = np.array([3, 0, 4, 1, 2])
    assert_same(losses_of(logits, predicted, *(x[:, order] for x in targets)), plain)

    def pad(x, value):
        return jnp.pad(x, [(0, 0), (0, 2)] + [(0, 0)] * (x.ndim - 2), constant_values=value)

    for label, coordinate in ((0, 0.0), (-1, 0.3), (999, 1.0)):
        padded = [pad(x, v) for x, v in zip(targets, (label, coordinate, False), strict=True)]
        assert_same(losses_of(logits, predicted, *padded), plain)


def test_images_that_fill_up_the_batch_have_no_loss(case):
    real = np.array([True, True, False, True])
    filled = losses_of(*case.arguments, valid_images=jnp.asarray(real))
    logits, predicted, *targets = case.arguments
    alone = losses_of(logits[:, real], predicted[:, real], *(x[real] for x in targets))
    assert_same(filled, alone)


def test_metrics_of_the_final_layer(case):
    case.logits[-1] = -5.0
    case.logits[-1, ..., CLASSES] = 0.0
    queries = np.asarray(losses_of(*case.arguments).queries)[-1]
    for i, j in ((0, 0), (0, 1), (2, 4)):  # finds three targets, and below one wrong object
        case.logits[-1, i, queries[i, j], case.labels[i, j]] = 5.0
    case.logits[-1, 1, 0, 2] = 5.0
    ours = losses_of(*case.arguments)
    np.testing.assert_array_equal(ours.queries[-1][case.valid], queries[case.valid])
    assert ours.class_hits == 3
    assert ours.cardinality_error == abs(2 - 3) + 1 + abs(1 - 5) + 1


def test_half_precision_is_computed_in_single(case):
    logits, predicted, *targets = case.arguments
    half = jnp.bfloat16(logits), jnp.bfloat16(predicted)
    ours = losses_of(*half, *targets)
    assert_same(ours, losses_of(*(jnp.float32(x) for x in half), *targets))
    assert {x.dtype for x in jax.tree.leaves(ours)} == {jnp.dtype("float32"), jnp.dtype("int32")}


@pytest.mark.parametrize("size", [(6, 8), (12, 16)])
def test_mask_losses(size):
    rng = np.random.default_rng(0)
    masks = np.float32(rng.normal(size=(2, 4, 6, 8)))
    targets = rng.uniform(size=(2, 3, *size)) < 0.4
    queries, valid = np.array([[2, 0, 4], [3, 4, 4]]), np.array([[1, 1, 0], [1, 0, 0]], bool)
    arrays = map(jnp.asarray, (masks, targets, np.int32(queries), valid))
    focal, dice = jax.jit(mask_losses)(*arrays)

    found = np.asarray(jax.image.resize(masks, (2, 4, *size), "bilinear"), float)
    expected = np.zeros(2)
    for i, j in zip(*np.nonzero(valid), strict=True):
        p, t = 1 / (1 + np.exp(-found[i, queries[i, j]])), targets[i, j]
        right = np.where(t, p, 1 - p)
        alpha = np.where(t, 0.25, 0.75)
        expected[0] += (-alpha * (1 - right) ** 2 * np.log(right)).mean()
        expected[1] += 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    np.testing.assert_allclose([focal, dice], expected, rtol=1e-5)


def test_training_on_it_finds_the_objects():
    """Trains logits and boxes directly, for 400 steps: finds every target and nothing else."""
    labels, valid = jnp.array([[1, 3, 0], [2, 0, 0]]), jnp.array([[1, 1, 0], [1, 0, 0]], bool)
    targets = jnp.array([[[0.3, 0.3, 0.2, 0.4], [0.7, 0.6, 0.3, 0.3]], [[0.5, 0.5, 0.5, 0.9]] * 2])
    targets = jnp.pad(targets, [(0, 0), (0, 1), (0, 0)])
    keys = jax.random.split(jax.random.key(0))
    params = jax.random.normal(keys[0], (1, 2, 6, 5)), jax.random.normal(keys[1], (1, 2, 6, 4))
    optimiser = optax.adam(0.05)

    def objective(params):
        parts = set_losses(params[0], jax.nn.sigmoid(params[1]), labels, targets, valid)
        return total(vars(parts)), parts

    @jax.jit
    def train(params):
        def step(_, carry):
            grads, _ = jax.grad(objective, has_aux=True)(carry[0])
            updates, state = optimiser.update(grads, carry[1])
            return optax.apply_updates(carry[0], updates), state

        return jax.lax.fori_loop(0, 400, step, (params, optimiser.init(params)))[0]

    loss, parts = jax.jit(objective)(train(params))
    assert loss < 0.1
    assert (parts.class_hits, parts.cardinality_error) == (3, 0)


def test_masks_in_frames_are_refused(case):
    logits, boxes, labels, targets, valid = case.arguments
    masks = jnp.zeros((BATCH, QUERIES, 4, 4))
    output = DetrOutput(logits[-1], boxes[-1], logits[:-1], boxes[:-1], masks)
    sizes, image_valid = jnp.full((BATCH, 2), 64), jnp.ones(BATCH, bool)
    crops = jnp.zeros((BATCH, TARGETS, 8, 8), jnp.uint8)
    given = Targets(targets, labels, valid, sizes, image_valid, masks=crops, mask_frames=targets)
    with pytest.raises(InputError, match=r"whole image: set data\.mask_size=none"):
        DetrLoss()(output, given)
