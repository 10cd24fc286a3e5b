import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from zoo.ops.matching import match
from zoo.types import InputError

QUERIES, TARGETS, PROBLEMS = 9, 6, 16
jitted = jax.jit(match)


def drawn(kind, seed=0):
    """Costs of 16 problems, and which targets are real: from none to all, at random places."""
    rng = np.random.default_rng(seed)
    shape = (PROBLEMS, QUERIES, TARGETS)
    costs = {
        "normal": lambda: rng.normal(size=shape),
        "ties": lambda: rng.integers(0, 3, shape),
        "equal": lambda: np.full(shape, 2.5),
        "huge": lambda: rng.normal(size=shape) * 1e25,
        "tiny": lambda: rng.normal(size=shape) * 1e-25,
        "negative": lambda: -rng.uniform(10, 20, shape),
        "one_good_query": lambda: (
            np.where(np.arange(QUERIES)[:, None] == 4, 0, 1) + 0.1 * rng.uniform(size=shape)
        ),
        "chain": lambda: (
            np.abs(np.arange(QUERIES)[:, None] * np.arange(1, TARGETS + 1))
            * rng.uniform(0.9, 1, shape)
        ),
    }[kind]()
    valid = rng.uniform(size=(PROBLEMS, TARGETS)) < np.linspace(0, 1, PROBLEMS)[:, None]
    return costs.astype(np.float32), valid


def check_assignment(queries, valid, num_queries):
    """Checks that each real target has a different query, and that padded targets have none."""
    assert queries.dtype == np.int32
    np.testing.assert_array_equal(queries[~valid], num_queries)
    for got, real in zip(queries, valid, strict=True):
        assert len(set(got[real])) == real.sum()
        assert ((got[real] >= 0) & (got[real] < num_queries)).all()


def totals(costs, queries, valid):
    padded = np.concatenate([costs, np.zeros_like(costs[:, :1])], axis=1).astype(np.float64)
    return np.take_along_axis(padded, queries[:, None], axis=1)[:, 0].sum(axis=1, where=valid)


def least_totals(costs, valid):
    found = []
    for problem, real in zip(costs.astype(np.float64), valid, strict=True):
        rows, columns = linear_sum_assignment(problem[:, real])
        found.append(problem[:, real][rows, columns].sum())
    return np.array(found)


@pytest.mark.parametrize(
    "kind",
    ["normal", "ties", "equal", "huge", "tiny", "negative", "one_good_query", "chain"],
)
def test_the_total_is_scipys(kind):
    for seed in range(10):
        costs, valid = drawn(kind, seed)
        queries = np.asarray(jitted(costs, valid))
        check_assignment(queries, valid, QUERIES)
        scale = np.abs(costs).max() * TARGETS
        np.testing.assert_allclose(
            totals(costs, queries, valid), least_totals(costs, valid), rtol=0, atol=1e-6 * scale
        )


def test_as_many_targets_as_queries():
    rng = np.random.default_rng(0)
    for shape in ((8, 30, 30), (8, 1, 1), (8, 2, 2)):
        costs = rng.normal(size=shape).astype(np.float32)
        valid = np.ones(shape[::2], bool)
        queries = np.asarray(jitted(costs))
        check_assignment(queries, valid, shape[1])
        np.testing.assert_allclose(
            totals(costs, queries, valid), least_totals(costs, valid), rtol=1e-5, atol=1e-5
        )


def test_a_unique_best_assignment_is_found():
    costs = np.float32([[4, 1, 3], [2, 0, 5], [3, 2, 2], [9, 9, 9]])
    np.testing.assert_array_equal(jitted(costs), [1, 0, 2])
    valid = jnp.array([True, False, True])
    np.testing.assert_array_equal(jitted(costs, valid), [1, 4, 2])


def test_no_targets():
    costs = np.zeros((2, 5, 3), np.float32)
    np.testing.assert_array_equal(jitted(costs, np.zeros((2, 3), bool)), 5)
    assert match(jnp.zeros((2, 5, 0))).shape == (2, 0)
    assert match(jnp.zeros((0, 5, 3))).shape == (0, 3)


def test_more_targets_than_queries_is_an_error():
    with pytest.raises(InputError, match="4 targets cannot be matched to 3 queries"):
        match(jnp.zeros((1, 3, 4)))


def test_costs_that_are_not_finite_are_avoided():
    costs, valid = drawn("normal")
    rng = np.random.default_rng(1)
    bad = rng.uniform(size=costs.shape) < 0.4
    for value in (np.nan, np.inf, -np.inf):
        spoilt = np.where(bad, np.float32(value), costs)
        queries = np.asarray(jitted(spoilt, valid))
        check_assignment(queries, valid, QUERIES)
        weighed = np.where(bad, np.float32(1e4), costs)  # more than all other costs together
        np.testing.assert_allclose(
            totals(weighed, queries, valid), least_totals(weighed, valid), atol=1e-2
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_any_costs_give_an_assignment(value):
    costs = np.full((PROBLEMS, QUERIES, TARGETS), value, np.float32)
    valid = drawn("normal")[1]
    check_assignment(np.asarray(jitted(costs, valid)), valid, QUERIES)
    costs[:, ::2] = 1.0
    costs[1::2, 1] = -costs[1::2, 1]
    check_assignment(np.asarray(jitted(costs, valid)), valid, QUERIES)


def test_padded_costs_do_not_matter():
    costs, valid = drawn("normal")
    for value in (np.nan, -np.inf, -1e30):
        spoilt = np.where(valid[:, None], costs, np.float32(value))
        np.testing.assert_array_equal(jitted(spoilt, valid), jitted(costs, valid))


def test_batched_equals_single():
    costs, valid = drawn("ties")
    single = [jitted(c, v) for c, v in zip(costs, valid, strict=True)]
    np.testing.assert_array_equal(jitted(costs, valid), single)
    grouped = costs.reshape(2, 2, 4, QUERIES, TARGETS), valid.reshape(2, 2, 4, TARGETS)
    np.testing.assert_array_equal(jitted(*grouped).reshape(PROBLEMS, TARGETS), single)


def test_it_has_no_gradient():
    costs, valid = map(jnp.asarray, drawn("normal"))

    def loss(costs):
        found = jnp.take_along_axis(costs, match(costs, valid)[:, None], axis=1, mode="clip")
        return jnp.where(valid[:, None], found, 0).sum()

    grads = jax.jit(jax.grad(loss))(costs)
    assert grads.sum() == valid.sum()
    assert set(np.unique(grads)) == {0, 1}


@pytest.mark.parametrize("queries", [100, 300])
def test_detr_sized_problems(queries):
    rng = np.random.default_rng(2)
    centres = rng.uniform(size=(2, 12, max(queries, 100), 2)).astype(np.float32)
    costs = np.abs(centres[0, :, :queries, None] - centres[1, :, None, :100]).sum(axis=-1)
    valid = np.arange(100) < rng.integers(0, 101, (12, 1))
    found = np.asarray(jitted(costs, valid))
    check_assignment(found, valid, queries)
    np.testing.assert_allclose(
        totals(costs, found, valid), least_totals(costs, valid), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["normal", "ties", "chain"])
def test_padding_beyond_the_queries_changes_nothing(kind):
    costs, valid = drawn(kind)
    expected = np.asarray(jitted(costs, valid))
    more = 7  # columns of padding: 13 targets, 9 queries
    wide = np.concatenate([costs, np.full((PROBLEMS, QUERIES, more), -1e9, np.float32)], axis=2)
    real = np.concatenate([valid, np.zeros((PROBLEMS, more), bool)], axis=1)
    order = np.argsort(np.random.default_rng(2).uniform(size=real.shape), axis=1)
    mixed = np.take_along_axis(wide, order[:, None], axis=2)
    kept = np.take_along_axis(real, order, axis=1)
    for call in (match, jitted):
        queries = np.asarray(call(jnp.asarray(mixed), jnp.asarray(kept)))
        check_assignment(queries, kept, QUERIES)
        np.testing.assert_allclose(
            totals(mixed, queries, kept), totals(costs, expected, valid), rtol=1e-5
        )
        queries = np.asarray(call(jnp.asarray(wide), jnp.asarray(real)))
        np.testing.assert_array_equal(queries[:, :TARGETS], expected)


def test_more_real_targets_than_queries_name_both_flags():
    costs = jnp.zeros((2, 3, 5))
    valid = jnp.array([[True, True, False, False, True], [True] * 4 + [False]])
    with pytest.raises(InputError, match=r"^4 targets cannot be matched to 3 queries: ") as error:
        match(costs, valid)
    assert all(f in str(error.value) for f in ("--model.num_queries", "--data.max_objects"))
    assert match(costs, valid.at[:, 0].set(False)).shape == (2, 5)
