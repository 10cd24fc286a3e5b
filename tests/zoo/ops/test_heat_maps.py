"""Heat maps against definitions in numpy that share no formula with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.heat_maps import (
    at_cells,
    draw_each_gaussians,
    draw_gaussians,
    gaussian_radius,
    peaks,
    top_cells,
    top_of_each_class,
)


def iou_of_moved(width, height, radius, first, second):
    """IoU of an object and the box whose corners are moved by a radius: -1 is up and left."""
    left, top = first * radius, first * radius
    right, bottom = width + second * radius, height + second * radius
    common = max(min(right, width) - max(left, 0), 0) * max(min(bottom, height) - max(top, 0), 0)
    return common / (width * height + (right - left) * (bottom - top) - common)


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_an_exact_radius_moves_corners_as_far_as_the_overlap_allows(iou):
    rng = np.random.default_rng(0)
    sizes = rng.uniform(2, 60, (50, 2))
    found = gaussian_radius(jnp.asarray(sizes, jnp.float32), iou)
    for (width, height), radius in zip(sizes, np.asarray(found), strict=True):
        moves = ((1, 1), (1, -1), (-1, 1))
        overlaps = [iou_of_moved(width, height, radius, *move) for move in moves]
        assert min(overlaps) == pytest.approx(iou, abs=1e-4)


def authors_radius(height, width, iou):
    """The formula of CenterNet's authors, in float64."""
    b = height + width
    r1 = (b + np.sqrt(b**2 - 4 * width * height * (1 - iou) / (1 + iou))) / 2
    b = 2 * (height + width)
    r2 = (b + np.sqrt(b**2 - 16 * (1 - iou) * width * height)) / 2
    b = -2 * iou * (height + width)
    r3 = (b + np.sqrt(b**2 - 16 * iou * (iou - 1) * width * height)) / 2
    return min(r1, r2, r3)


def test_the_authors_radius_for_all_sizes_of_a_map():
    sizes = np.stack(np.meshgrid(np.arange(1, 129), np.arange(1, 129)), axis=-1).reshape(-1, 2)
    wanted = np.array([authors_radius(*size, 0.7) for size in sizes.astype(float)])
    found = np.asarray(gaussian_radius(jnp.asarray(sizes, jnp.float32), 0.7, "centernet"))
    np.testing.assert_allclose(found, wanted, atol=2e-5)  # of up to 90; float32
    np.testing.assert_array_equal(found.astype(int), wanted.astype(int))


@pytest.mark.parametrize("rule", ["exact", "centernet"])
def test_a_box_without_area_has_the_radius_0(rule):
    found = gaussian_radius(jnp.array([[0.0, 0.0], [0.0, 7.0]]), 0.7, rule)
    np.testing.assert_array_equal(found, 0)


def drawn_objects(b=3, m=9, shape=(11, 14), k=4):
    rng = np.random.default_rng(1)
    return (
        rng.integers((-2, -2), (shape[1] + 2, shape[0] + 2), (b, m, 2)),
        rng.integers(0, 6, (b, m)),
        rng.integers(0, k, (b, m)),
        rng.random((b, m)) < 0.7,
    )


def gaussians_by_definition(places, radii, labels, valid, shape, k):
    maps = np.zeros((len(places), *shape, k))
    for i, j in zip(*np.nonzero(valid), strict=True):
        (x, y), radius = places[i, j], radii[i, j]
        sigma = (2 * radius + 1) / 6
        for row in range(max(y - radius, 0), min(y + radius + 1, shape[0])):
            for column in range(max(x - radius, 0), min(x + radius + 1, shape[1])):
                value = np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * sigma**2))
                cell = (i, row, column, labels[i, j])
                maps[cell] = max(maps[cell], value)
    return maps


def test_gaussians_equal_their_definition():
    objects, shape = drawn_objects(), (11, 14)
    draw = jax.jit(draw_gaussians, static_argnums=(4, 5))
    found = draw(*map(jnp.asarray, objects), shape, 4)
    wanted = gaussians_by_definition(*objects, shape, 4)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_array_equal(found == 1, wanted == 1)
    assert (wanted == 1).sum() > 10


def test_gaussians_in_every_map_are_those_drawn_one_by_one():
    places, radii, _, valid = map(jnp.asarray, drawn_objects(m=8))
    there, shape = valid.reshape(3, 2, 4), (11, 14)
    found = draw_each_gaussians(places.reshape(3, 2, 4, 2), radii[:, :2], there, shape)
    labels = jnp.broadcast_to(jnp.tile(jnp.arange(4), 2), (3, 8))
    expected = draw_gaussians(places, jnp.repeat(radii[:, :2], 4, 1), labels, valid, shape, 4)
    np.testing.assert_array_equal(found, expected)


def test_labels_of_padding_may_be_any_number():
    places, radii, labels, valid = map(jnp.asarray, drawn_objects())
    found = [
        draw_gaussians(places, radii, jnp.where(valid, labels, other), valid, (11, 14), 4)
        for other in (0, -1, 99)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_no_objects_give_empty_maps():
    places, radii, labels, valid = map(jnp.asarray, drawn_objects())
    for given in (
        (places, radii, labels, valid & False),
        (places[:, :0], *(x[:, :0] for x in (radii, labels, valid))),
    ):
        assert not draw_gaussians(*given, (5, 6), 4).any()


def test_the_memory_of_drawing_does_not_grow_with_the_number_of_objects():
    """One map for each object and class would be 40 times as large as the maps."""
    shape, k, m = (64, 64), 20, 40
    types = [
        jax.ShapeDtypeStruct((1, m, 2), jnp.int32),
        *(jax.ShapeDtypeStruct((1, m), dtype) for dtype in (jnp.int32, jnp.int32, bool)),
    ]
    compiled = jax.jit(draw_gaussians, static_argnums=(4, 5)).lower(*types, shape, k).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * (4 * 64 * 64 * k)


def test_a_peak_is_the_largest_of_its_neighbours():
    rng = np.random.default_rng(2)
    maps = rng.integers(0, 9, (2, 7, 8, 3)).astype(np.float32)  # with equal neighbours
    wanted = np.zeros_like(maps)
    for i, row, column, k in np.ndindex(*maps.shape):
        around = maps[i, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2, k]
        if maps[i, row, column, k] == around.max():
            wanted[i, row, column, k] = maps[i, row, column, k]
    np.testing.assert_array_equal(peaks(jnp.asarray(maps)), wanted)


@pytest.mark.parametrize("by_class", [True, False])
def test_the_best_cells_are_those_of_a_stable_sort(by_class):
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 40, (2, 5, 6, 3)).astype(np.float32)  # many equal values
    found = top_cells(jnp.asarray(maps), 13, by_class=by_class)
    for i in range(2):
        flat = maps[i].transpose(2, 0, 1).ravel()
        order = np.argsort(-flat, kind="stable")[:13]
        np.testing.assert_array_equal(found.scores[i], flat[order])
        label, row, column = np.unravel_index(order, (3, 5, 6))
        np.testing.assert_array_equal(found.labels[i], label)
        np.testing.assert_array_equal(found.y[i], row)
        np.testing.assert_array_equal(found.x[i], column)
        np.testing.assert_array_equal(found.index[i], row * 6 + column)


def test_the_best_cells_of_each_class():
    maps = np.random.default_rng(4).permutation(2 * 5 * 6 * 3).reshape(2, 5, 6, 3)
    found = top_of_each_class(jnp.asarray(maps, jnp.float32), 4)
    wanted = -np.sort(-maps.reshape(2, 30, 3), axis=1)[:, :4].transpose(0, 2, 1)
    np.testing.assert_array_equal(found.scores, wanted)
    for i, k, n in np.ndindex(2, 3, 4):
        assert maps[i, found.y[i, k, n], found.x[i, k, n], k] == wanted[i, k, n]
        assert found.labels[i, k, n] == k


@pytest.mark.parametrize("by_class", [True, False])
def test_small_maps_have_fewer_cells(by_class):
    assert top_cells(jnp.ones((1, 2, 3, 4)), 100, by_class=by_class).scores.shape == (1, 24)


def test_features_of_cells():
    maps = jnp.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)
    found = at_cells(maps, jnp.array([[0, 7], [11, 4]]))
    np.testing.assert_array_equal(found[0], [maps[0, 0, 0], maps[0, 1, 3]])
    np.testing.assert_array_equal(found[1], [maps[1, 2, 3], maps[1, 1, 0]])
