import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from zoo.ops.masks import random_visible, visible_indices


def draws(seed, count, num_patches=16, num_visible=4):
    keys = jax.random.split(jax.random.key(seed), count)
    draw = jax.vmap(lambda key: random_visible(key, num_patches, num_visible))
    return np.asarray(jax.jit(draw)(keys))


@pytest.mark.parametrize(("num_patches", "num_visible"), [(196, 49), (16, 4), (5, 1), (7, 7)])
def test_exactly_so_many_are_visible(num_patches, num_visible):
    visible = draws(0, 200, num_patches, num_visible)
    assert visible.dtype == bool
    np.testing.assert_array_equal(visible.sum(axis=1), num_visible)


def test_positions_are_uniform_by_chi_square():
    counts = draws(1, 20_000).sum(axis=0)
    assert chisquare(counts).pvalue > 1e-3
    counts[0] = 1.1 * counts[0]
    assert chisquare(counts).pvalue < 1e-3  # the test detects a count that is 10% larger


def test_pairs_of_positions_are_uniform_by_chi_square():
    visible = draws(2, 20_000).astype(float)
    together = (visible.T @ visible)[np.triu_indices(16, 1)]
    np.testing.assert_allclose(together.sum(), 20_000 * 6)
    # The counts of pairs depend on each other, which can only make the statistic smaller.
    assert chisquare(together).pvalue > 1e-3


def test_every_subset_is_drawn_equally_often():
    visible = draws(3, 20_000, num_patches=5, num_visible=2)
    kinds, counts = np.unique(visible, axis=0, return_counts=True)
    assert len(kinds) == 10
    assert chisquare(counts).pvalue > 1e-3


def test_a_key_decides():
    np.testing.assert_array_equal(draws(4, 50), draws(4, 50))
    assert (draws(4, 50) != draws(5, 50)).any()
    assert len(np.unique(draws(4, 50), axis=0)) > 40


def test_indices_of_the_visible_ascend():
    visible = draws(6, 30)
    indices = np.asarray(visible_indices(jnp.asarray(visible), 4))
    expected = [np.flatnonzero(row) for row in visible]
    np.testing.assert_array_equal(indices, expected)
