import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.ops import boxes as ops

BOXES = st.lists(
    st.tuples(*[st.integers(-50, 50)] * 4).map(lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]]),
    min_size=6,
    max_size=6,
).map(lambda rows: jnp.array(rows, jnp.float32))


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the IoU by counting unit cells; the corners must be integers."""
    cells = [
        {(x, y) for x in range(*map(int, box[::2])) for y in range(*map(int, box[1::2]))}
        for box in (a, b)
    ]
    union = len(cells[0] | cells[1])
    return len(cells[0] & cells[1]) / union if union else 0.0


@given(BOXES)
@settings(deadline=None, max_examples=50)
def test_conversions_round_trip(boxes):
    there_xywh, there_cxcywh = ops.xyxy_to_xywh(boxes), ops.xyxy_to_cxcywh(boxes)
    np.testing.assert_array_equal(ops.xywh_to_xyxy(there_xywh), boxes)
    np.testing.assert_array_equal(ops.cxcywh_to_xyxy(there_cxcywh), boxes)
    np.testing.assert_array_equal(there_xywh[..., 2:], there_cxcywh[..., 2:])


def test_formats():
    box = jnp.array([10.0, 20.0, 40.0, 100.0])
    assert ops.xyxy_to_xywh(box).tolist() == [10, 20, 30, 80]
    assert ops.xyxy_to_cxcywh(box).tolist() == [25, 60, 30, 80]


@given(BOXES, BOXES)
@settings(deadline=None, max_examples=50)
def test_iou_counts_cells(a, b):
    expected = [[slow_iou(x, y) for y in np.asarray(b)] for x in np.asarray(a)]
    np.testing.assert_allclose(ops.iou(a, b), expected, rtol=1e-6)


def test_pairwise_equals_paired_and_batched_equals_single():
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.normal(size=(2, 3, 5, 4)), jnp.float32)
    for pairwise, paired in ((ops.iou, ops.paired_iou), (ops.giou, ops.paired_giou)):
        every = pairwise(a, b)
        np.testing.assert_array_equal(jnp.einsum("bnn->bn", every), paired(a, b))
        np.testing.assert_array_equal(every[1], pairwise(a[1], b[1]))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),
        ([0, 0, 1, 1], [2, 0, 3, 1], -1 / 3),  # separate: the hull has area 3, the union 2
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),  # a point
        ([0, 0, 2, 2], [1, 1, 1, 1], 0.0),  # a point inside a box
        ([5, 5, 4, 4], [5, 5, 4, 4], 0.0),  # corners in the wrong order
    ],
)
def test_giou_by_hand(a, b, expected):
    a, b = jnp.array(a, jnp.float32), jnp.array(b, jnp.float32)
    np.testing.assert_allclose(ops.paired_giou(a, b), expected, atol=1e-6)


@jax.jit
def gradients(a, b):
    return [
        jax.grad(lambda a, f=function: f(a, b).sum())(a)
        for function in (ops.paired_giou, ops.paired_iou)
    ]


@given(BOXES, st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_giou_gradients_are_finite(boxes, roll):
    for gradient in gradients(boxes, jnp.roll(boxes, roll, axis=0)):  # roll 0: the same boxes
        assert jnp.isfinite(gradient).all()


def test_giou_gradient_pulls_apart_boxes_together():
    a, b = jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([4.0, 0.0, 5.0, 1.0])
    gradient = jax.grad(lambda box: ops.paired_giou(box, b))(a)
    assert gradient[2] > 0


def test_area_clip_valid():
    boxes = jnp.array(
        [[-5.0, -5, 5, 5], [20, 1, 30, 2], [3, 3, 3, 9], [4, 4, 2, 9], [0, 0, jnp.inf, 1]]
    )
    assert ops.is_valid(boxes).tolist() == [True, True, False, False, False]
    assert ops.area(boxes)[:4].tolist() == [100, 10, 0, 0]
    clipped = ops.clip(boxes, height=8, width=10)
    assert clipped[0].tolist() == [0, 0, 5, 5]
    assert clipped[1].tolist() == [10, 1, 10, 2]
    assert not ops.is_valid(clipped)[1]


def test_jit_and_vmap():
    rng = np.random.default_rng(1)
    a, b = jnp.asarray(rng.normal(size=(2, 4, 6, 4)), jnp.float32)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(ops.giou))(a, b), ops.giou(a, b), rtol=2e-5, atol=1e-6
    )
    assert ops.iou(a[:, :0], b).shape == (4, 0, 6)
