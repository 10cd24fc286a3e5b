import jax
import jax.numpy as jnp
import numpy as np

from tests.roi import golden
from zoo.ops.roi_keypoints import decode_keypoints, keypoint_targets

DECODE = jax.jit(decode_keypoints, static_argnames="max_side")


def test_targets_are_torchvisions():
    peer = golden("keypoints")
    cells, valid = keypoint_targets(peer["truth"], peer["boxes"], size=56)
    np.testing.assert_array_equal(valid, peer["valid"])
    np.testing.assert_array_equal(cells, peer["cells"])
    assert 5 < valid.sum() < valid.size - 5


def test_targets_of_batches_and_degenerate_boxes():
    peer = golden("keypoints")
    truth, boxes = peer["truth"].reshape(2, 4, 5, 3), peer["boxes"].reshape(2, 4, 4)
    cells, valid = keypoint_targets(truth, boxes, size=56)
    np.testing.assert_array_equal(cells.reshape(8, 5), peer["cells"])
    empty = jnp.array([[3.0, 3, 3, 9], [9, 9, 1, 1], [0, 0, 0, 0]])
    cells, valid = keypoint_targets(truth[0, :3], empty, size=56)
    assert not valid.any() and not cells.any()


def test_keypoints_are_torchvisions():
    peer = golden("keypoints")
    points, logits, scores = DECODE(peer["heatmaps"], peer["boxes"])
    np.testing.assert_allclose(points, peer["points"], atol=1e-4)
    np.testing.assert_allclose(logits, peer["scores"], atol=1e-5)
    # detectron2's: exponentials of the enlarged and of the original logits, less the largest one
    maps = np.exp(np.asarray(peer["heatmaps"]) - np.asarray(logits)[:, None, None])
    np.testing.assert_allclose(scores, 1 / maps.sum(axis=(1, 2)), rtol=1e-5)


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def enlarge(heatmap, rows, columns):
    """Bicubic interpolation with a = -0.75, cells beyond the border repeated."""

    def weights(size, cells):
        matrix = np.zeros((size, cells))
        for i in range(size):
            centre = (i + 0.5) * cells / size - 0.5
            for k in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                matrix[i, min(max(k, 0), cells - 1)] += cubic(centre - k)
        return matrix

    return weights(rows, len(heatmap)) @ heatmap @ weights(columns, len(heatmap)).T


def test_definition():
    """Boxes smaller and larger than a tile; one is larger than the limit."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5, 8, 8, 2)).astype(np.float32)
    boxes = np.array(
        [[0, 0, 7.5, 3.2], [-5, 2, 60, 90.1], [3, 3, 3, 3], [9, 9, 2, 1], [0, 0, 300, 40]],
        np.float32,
    )
    points, logits, _ = DECODE(jnp.array(maps), jnp.array(boxes), max_side=200)
    for i, (left, top, right, bottom) in enumerate(boxes):
        width, height = max(right - left, 1), max(bottom - top, 1)
        columns, rows = (min(int(np.ceil(x)), 200) for x in (width, height))
        for j in range(2):
            fine = enlarge(maps[i, :, :, j].astype(float), rows, columns)
            row, column = np.unravel_index(fine.argmax(), fine.shape)
            np.testing.assert_allclose(logits[i, j], fine.max(), atol=1e-5)
            expected = [left + (column + 0.5) * width / columns, top + (row + 0.5) * height / rows]
            np.testing.assert_allclose(points[i, j], expected, rtol=1e-5, atol=1e-4)


def test_the_first_of_equal_values():
    """Row by row, though a tile right of it is computed later than one below."""
    flat = jnp.zeros((1, 2, 2, 1))
    points, _, scores = decode_keypoints(flat, jnp.array([[0.0, 0, 100, 100]]))
    assert points[0, 0].tolist() == [0.5, 0.5]
    assert scores.tolist() == [[0.25]]
    right = jnp.full((1, 100, 100, 1), -1.0).at[0, 3, 90].set(1.0).at[0, 8, 2].set(1.0)
    points, _, _ = decode_keypoints(right, jnp.array([[0.0, 0, 100, 100]]))
    assert points[0, 0].tolist() == [90.5, 3.5]


def test_no_boxes():
    points, logits, scores = decode_keypoints(jnp.zeros((0, 8, 8, 3)), jnp.zeros((0, 4)))
    assert points.shape == (0, 3, 2) and logits.shape == scores.shape == (0, 3)
