"""Grids of anchors, their coders and assignment, and reorg, against loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.assign_grid import assign_by_cell_iou, assign_by_shape, shape_iou
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.grid_coder import GridCoder, RootCoder
from zoo.ops.pool import max_pool_same
from zoo.ops.reorg import reorg
from zoo.types import InputError

GRID = GridAnchors(
    sizes=(((6.0, 8.0), (10.0, 7.0)), ((14.0, 20.0), (30.0, 18.0), (25.0, 40.0))), strides=(4, 8)
)
SHAPES = ((8, 12), (4, 6))


def darknets_reorg(x, stride):
    """The loop of darknet's program, over the memory of a map [c h w]."""
    c, h, w = x.shape
    memory, out, out_c = x.ravel(), np.zeros(x.size, x.dtype), c // stride**2
    for k in range(c):
        for j in range(h):
            for i in range(w):
                offset = k // out_c
                column, row = i * stride + offset % stride, j * stride + offset // stride
                there = column + w * stride * (row + h * stride * (k % out_c))
                out[i + w * (j + h * k)] = memory[there]
    return out.reshape(c * stride**2, h // stride, w // stride)


@pytest.mark.parametrize(("shape", "stride"), [((8, 4, 6), 2), ((18, 6, 9), 3), ((4, 2, 2), 2)])
def test_reorg_is_darknets(shape, stride):
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    found = reorg(jnp.asarray(x.transpose(0, 2, 3, 1)), stride)
    expected = np.stack([darknets_reorg(one, stride) for one in x])
    np.testing.assert_array_equal(found, expected.transpose(0, 2, 3, 1))
    blocks = x.reshape(2, shape[0], shape[1] // stride, stride, shape[2] // stride, stride)
    space_to_depth = blocks.transpose(0, 2, 4, 3, 5, 1).reshape(found.shape)
    assert (np.asarray(found) != space_to_depth).any()


def test_reorg_needs_multiples():
    with pytest.raises(ValueError, match="reorg by 2 does not divide 3 x 4 pixels of 8 features"):
        reorg(jnp.zeros((1, 3, 4, 8)))


@pytest.mark.parametrize("size", [2, 5])
def test_pooling_of_stride_1_is_darknets(size):
    """By its loop: the window begins (size - 1) // 2 pixels before the pixel."""
    x = np.random.default_rng(1).normal(size=(1, 4, 6, 2)).astype(np.float32)
    found, first = np.asarray(max_pool_same(jnp.asarray(x), size)), (size - 1) // 2
    for i in range(4):
        for j in range(6):
            rows = slice(max(i - first, 0), i - first + size)
            columns = slice(max(j - first, 0), j - first + size)
            np.testing.assert_array_equal(found[0, i, j], x[0, rows, columns].max(axis=(0, 1)))


def test_anchors_are_in_the_middle_of_their_cells():
    fine, coarse = GRID.per_level(SHAPES)
    assert fine.shape == (8 * 12 * 2, 4)
    assert coarse.shape == (4 * 6 * 3, 4)
    np.testing.assert_array_equal(fine[(3 * 12 + 5) * 2 + 1], [22 - 5, 14 - 3.5, 22 + 5, 14 + 3.5])
    with pytest.raises(InputError, match="1 levels of sizes"):
        GridAnchors((((1.0, 2.0),),), (8, 16))
    with pytest.raises(InputError, match="must be positive"):
        GridAnchors((((1.0, 0.0),),), (8,))


@pytest.mark.parametrize("coder", [GridCoder(), RootCoder(48)])
def test_coders_return_what_they_encode(coder):
    rng = np.random.default_rng(2)
    sizes = ((4.0, 4.0),), ((8.0, 8.0),)
    grid = GRID if isinstance(coder, GridCoder) else GridAnchors(sizes, (4, 8))
    anchors = np.concatenate(grid.per_level(SHAPES))
    strides = np.repeat([4.0, 8.0], [len(x) for x in grid.per_level(SHAPES)])[:, None]
    strides = strides.astype(np.float32)
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    centre += (rng.uniform(-0.45, 0.45, centre.shape) * strides).astype(np.float32)
    half = rng.uniform(1, 20, centre.shape).astype(np.float32)
    boxes = jnp.asarray(np.concatenate([centre - half, centre + half], axis=1))
    targets = coder.encode(boxes, jnp.asarray(anchors), jnp.asarray(strides))
    if isinstance(coder, GridCoder):
        place = targets[:, :2]
        assert ((place > 0) & (place < 1)).all()
        targets = jnp.concatenate([jnp.log(place / (1 - place)), targets[:, 2:]], axis=1)
    found = coder.decode(targets, jnp.asarray(anchors), jnp.asarray(strides))
    np.testing.assert_allclose(found, boxes, rtol=1e-4, atol=1e-3)


def test_targets_of_padding_are_finite():
    anchors, strides = jnp.array([[0.0, 0, 8, 8]]), jnp.array([[8.0]])
    for coder in (GridCoder(), RootCoder()):
        assert jnp.isfinite(coder.encode(jnp.zeros((1, 4)), anchors, strides)).all()


def drawn_boxes(rng, count):
    centre = rng.uniform((0, 0), (47.9, 31.9), (count, 2))
    half = rng.uniform(2, 16, (count, 2))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def test_objects_belong_to_the_anchor_of_the_best_shape():
    """By a loop over objects and anchors, the later object over the earlier one."""
    rng = np.random.default_rng(3)
    boxes = np.stack([drawn_boxes(rng, 9) for _ in range(3)])
    boxes[0, 5] = boxes[0, 2]  # the same slot
    valid = np.arange(9) < np.array([9, 4, 0])[:, None]
    counts = np.array([8 * 12 * 2, 4 * 6 * 3])
    match, positive, fit = jax.jit(lambda b, v: assign_by_shape(GRID, SHAPES, b, v))(boxes, valid)
    pairs = [(level, k) for level in (0, 1) for k in range(len(GRID.sizes[level]))]
    for i in range(3):
        expected = np.full(counts.sum(), -1)
        for m in np.flatnonzero(valid[i]):
            w, h = boxes[i, m, 2:] - boxes[i, m, :2]
            overlaps = []
            for level, k in pairs:
                aw, ah = GRID.sizes[level][k]
                shared = min(w, aw) * min(h, ah)
                overlaps.append(shared / (w * h + aw * ah - shared))
            level, k = pairs[int(np.argmax(overlaps))]
            np.testing.assert_allclose(fit[i, m], max(overlaps), rtol=1e-5)
            x, y = (boxes[i, m, :2] + boxes[i, m, 2:]) / 2 / GRID.strides[level]
            cell = math.floor(y) * SHAPES[level][1] + math.floor(x)
            expected[counts[0] * level + cell * len(GRID.sizes[level]) + k] = m
        np.testing.assert_array_equal(np.where(positive[i], match[i], -1), expected)
    assert 5 in match[0]
    assert 2 not in match[0]


def test_an_object_on_the_far_edge_belongs_to_the_last_cell():
    boxes = jnp.array([[[40.0, 28, 56, 36]]])  # its centre is the corner of the image
    match, positive, _ = assign_by_shape(GRID, SHAPES, boxes, jnp.ones((1, 1), bool))
    assert positive.sum() == 1
    assert positive[0].argmax() == 8 * 12 * 2 - 1
    assert match.sum() == 0


def test_the_iou_of_shapes():
    found = shape_iou(jnp.array([[[4.0, 2.0]]]), jnp.array([[2.0, 4.0], [4.0, 2.0]]))
    np.testing.assert_allclose(found, [[[4 / 12, 1.0]]])


def test_mmdets_rule_without_objects():
    anchors = jnp.asarray(np.concatenate(GRID.per_level(SHAPES)))[None]
    strides = jnp.asarray(np.repeat([4.0, 8.0], [192, 72]).astype(np.float32))[:, None]
    for boxes, valid in (
        (jnp.zeros((1, 0, 4)), jnp.zeros((1, 0), bool)),
        (jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), bool)),
    ):
        _, label = assign_by_cell_iou(anchors, strides, boxes, valid)
        assert (label == 0).all()
