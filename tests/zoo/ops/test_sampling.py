from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.sampling import hardest_negatives, sample_balanced, sample_hardest

SAMPLE = jax.jit(sample_balanced, static_argnums=(1, 2))


def draw(seed, n=50, positives=0.3):
    rng = np.random.default_rng(seed)
    return rng.choice([1, 0, -1], n, p=[positives, 0.9 - positives, 0.1])


@pytest.mark.parametrize("num", [8, 40, 70])
@pytest.mark.parametrize("random", [False, True])
def test_counts_and_order(num, random):
    labels = np.stack([draw(seed, positives=p) for seed, p in enumerate((0, 0.05, 0.3, 0.9))])
    keys = jax.random.split(jax.random.key(0), 4) if random else None
    index, sampled = map(np.asarray, SAMPLE(jnp.array(labels), num, 0.25, keys))
    assert index.shape == sampled.shape == (4, num)
    assert ((index >= 0) & (index < 50)).all()
    for row, rows, drawn in zip(labels, index, sampled, strict=True):
        positives = min((row == 1).sum(), int(num * 0.25))
        negatives = min((row == 0).sum(), num - positives)
        expected = [1] * positives + [0] * negatives
        assert row[rows[drawn]].tolist() == expected  # positive ones first
        assert drawn.tolist() == [True] * len(expected) + [False] * (num - len(expected))
        assert len(set(rows[drawn])) == len(expected)  # without replacement
        if not random:
            chosen = [*np.flatnonzero(row == 1)[:positives], *np.flatnonzero(row == 0)[:negatives]]
            assert rows[drawn].tolist() == chosen


def test_every_candidate_is_equally_likely():
    """4,000 samples of 3 of 9 positive and 9 of 27 negative ones: each is drawn in a third."""
    labels = jnp.tile(jnp.array([1, 0, 0, 0, -1]), (4000, 9))
    keys = jax.random.split(jax.random.key(1), 4000)
    index, sampled = SAMPLE(labels, 12, 0.25, keys)
    assert sampled.all()
    often = np.bincount(np.asarray(index).ravel(), minlength=45) / 4000
    assert (often[4::5] == 0).all()
    # 5 standard deviations of a share of 1 / 3 in 4,000 draws
    np.testing.assert_allclose(np.delete(often, np.s_[4::5]), 1 / 3, atol=5 * (2 / 9 / 4000) ** 0.5)


def test_an_image_depends_on_its_own_key_only():
    labels, keys = jnp.array([draw(5), draw(6)]), jax.random.split(jax.random.key(2), 2)
    both = SAMPLE(labels, 16, 0.5, keys)
    alone = SAMPLE(labels[1], 16, 0.5, keys[1])
    for together, single in zip(both, alone, strict=True):
        np.testing.assert_array_equal(together[1], single)
    other = SAMPLE(labels[1], 16, 0.5, keys[0])
    assert (other[0] != alone[0]).any()


def test_hardest():
    rng = np.random.default_rng(7)
    labels, losses = np.stack([draw(8), draw(9)]), rng.random((2, 50)).astype(np.float32)
    index, chosen = sample_hardest(jnp.array(labels), jnp.array(losses), 20)
    assert chosen.all()
    for b in range(2):
        ranked = [i for i in np.argsort(-losses[b]) if labels[b, i] >= 0]
        assert index[b].tolist() == ranked[:20]
    index, chosen = sample_hardest(jnp.array(labels), jnp.array(losses), 60)
    np.testing.assert_array_equal(chosen.sum(axis=1), (labels >= 0).sum(axis=1))
    assert ((index >= 0) & (index < 50)).all()


def test_no_candidates():
    none = jnp.zeros((2, 0), jnp.int32)
    for index, drawn in (
        sample_balanced(none, 4, 0.5),
        sample_balanced(none, 4, 0.5, jax.random.split(jax.random.key(0), 2)),
        sample_hardest(none, jnp.zeros((2, 0)), 4),
    ):
        assert index.shape == (2, 4) and not drawn.any()


def test_hardest_negatives_of_each_image():
    """Three for each positive one; none without positive ones; at most all."""
    rng = np.random.default_rng(3)
    positive = np.zeros((4, 20), bool)
    for row, count in enumerate((0, 1, 3, 10)):
        positive[row, rng.choice(20, count, replace=False)] = True
    losses = rng.permutation(80).reshape(4, 20).astype(np.float32)
    chosen = np.asarray(
        jax.jit(partial(hardest_negatives, ratio=3.0))(jnp.array(positive), jnp.array(losses))
    )
    for row, count in enumerate((0, 3, 9, 10)):
        negatives = np.flatnonzero(~positive[row])
        order = negatives[np.argsort(-losses[row, negatives])]
        assert set(np.flatnonzero(chosen[row])) == set(order[:count])
