"""Optimal assignment of targets to queries: exact, on the device, for a whole batch at once.

Shortest augmenting paths with dual variables (Jonker and Volgenant, "A shortest augmenting path
algorithm for dense and sparse linear assignment problems", 1987). Every target first takes its
cheapest query if no earlier target takes it; only the remaining targets need a path.

All problems of a batch go through one loop together, and each advances independently: every turn
adds one query to a problem's tree of shortest paths, or moves one step back along a path that was
found. In a vmapped loop, every problem would wait for the slowest one at each target.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Shaped

from zoo.types import InputError

_HUGE = 1e30


def match(
    costs: Float[Array, "*b q m"], valid: Bool[Array, "*b m"] | None = None
) -> Int[Array, "*b m"]:
    """The query of each target in an assignment with the lowest total cost.

    No two targets of a problem get the same query. The total is minimal up to rounding in float32;
    if several assignments are best, any of them may be returned. Infinite and NaN costs are avoided
    where possible, and otherwise matched like any other; costs beyond 1e30 in size are clipped to
    it. Not differentiable.

    >>> costs = jnp.array([[0.1, 0.2], [0.9, 0.9], [0.2, 0.8]])  # 3 queries, 2 targets
    >>> match(costs).tolist()
    [2, 0]

    Args:
        costs: Cost of giving query q to target m; it may be negative.
        valid: False for padded targets, which get no query; all are valid by default. There may be
            more targets than queries if padding makes them so many.

    Returns:
        Index of a query, int32, in 0..q-1; for padded targets q, one beyond the last, which
        scatters drop and gathers clamp. Inside jit, where the number of valid targets is not
        known, those beyond the first q valid ones are taken for padding.

    Raises:
        InputError: If a problem has more valid targets than queries.
    """
    *batch, q, m = costs.shape
    if m > q and (most := _most(valid, m)) > q:
        raise InputError(
            f"{most} targets cannot be matched to {q} queries: raise --model.num_queries, or lower"
            " --data.max_objects"
        )
    if valid is None:
        valid = jnp.ones((*batch, m), bool)
    if 0 in costs.shape:
        return jnp.full((*batch, m), q, jnp.int32)
    costs = jax.lax.stop_gradient(costs).reshape(-1, q, m).astype(jnp.float32)
    valid = valid.reshape(-1, m)
    if m > q:
        return _match_some(costs, valid).reshape(*batch, m)
    return _match(costs, valid).reshape(*batch, m)


def _most(valid: Bool[Array, "*b m"] | None, m: int) -> int:
    """The most valid targets of a problem; 0 inside jit, where the number is not known."""
    if valid is None:
        return m
    return 0 if isinstance(valid, Tracer) else int(valid.sum(axis=-1).max(initial=0))


def _match_some(costs: Float[Array, "b q m"], valid: Bool[Array, "b m"]) -> Int[Array, "b m"]:
    """`match` for more targets than queries, of which at most as many are valid."""
    q = costs.shape[1]
    chosen = jnp.argsort(~valid, axis=1, stable=True)[:, :q]  # the valid ones, then padding
    some = jnp.take_along_axis(costs, chosen[:, None], axis=2)
    found = _match(some, jnp.take_along_axis(valid, chosen, axis=1))
    lane = jnp.arange(valid.shape[0])[:, None]
    return jnp.full(valid.shape, q, jnp.int32).at[lane, chosen].set(found)


def _match(costs: Float[Array, "b q m"], valid: Bool[Array, "b m"]) -> Int[Array, "b m"]:
    """`match` for at most as many targets as queries."""
    q = costs.shape[1]
    owner = _assign(_finite(costs, valid), valid)
    lane = jnp.arange(owner.shape[0])[:, None]
    queries = jnp.full(valid.shape, q, jnp.int32)
    return queries.at[lane, owner].set(jnp.arange(q, dtype=jnp.int32), mode="drop")


def _finite(costs: Float[Array, "b q m"], valid: Bool[Array, "b m"]) -> Float[Array, "b q m"]:
    """Replaces each cost that is not finite by one larger than all finite costs together."""

    def replace() -> Float[Array, "b q m"]:
        known = jnp.isfinite(costs) & valid[:, None]
        cut = jnp.clip(costs, -_HUGE, _HUGE)
        low = jnp.min(cut, axis=(1, 2), where=known, initial=_HUGE)
        high = jnp.max(cut, axis=(1, 2), where=known, initial=-_HUGE)
        worst = high + costs.shape[2] * jnp.maximum(high - low, 0) + 1
        worst = jnp.where(known.any(axis=(1, 2)), worst, 0)
        return jnp.where(known, cut, worst[:, None, None])

    # Comparisons with NaN are False. Written as two reductions, which XLA runs fastest on a CPU.
    sound = (costs.min(axis=1) >= -_HUGE) & (costs.max(axis=1) <= _HUGE) | ~valid
    return jax.lax.cond(sound.all(), lambda: costs, replace)


def _cheapest(costs: Float[Array, "b q m"]) -> Int[Array, "b m"]:
    """``costs.argmin(axis=1)``, as two reductions of floats: seven times as fast on a CPU."""
    rank = jnp.arange(costs.shape[1], 0, -1, dtype=jnp.float32)[:, None]
    best = jnp.where(costs == costs.min(axis=1, keepdims=True), rank, 0).max(axis=1)
    return costs.shape[1] - best.astype(jnp.int32)


class _State(struct.PyTreeNode):
    """The progress of each problem.

    Attributes:
        owner: Target of each query; m for none.
        price: Dual variable of each query.
        target: The target for which a path is being searched; m when all targets are done.
        distance: Length of the shortest path found to each query, from the target.
        parent: The previous query on that path; q for none.
        closed: Whether the path to the query is known to be the shortest.
        query: The query that was closed last, or the current query while a path is followed back;
            q for none yet.
        backward: Whether a path was found and is being followed back.
    """

    owner: Int[Array, "b q"]
    price: Float[Array, "b q"]
    target: Int[Array, " b"]
    distance: Float[Array, "b q"]
    parent: Int[Array, "b q"]
    closed: Bool[Array, "b q"]
    query: Int[Array, " b"]
    backward: Bool[Array, " b"]


def _assign(costs: Float[Array, "b q m"], valid: Bool[Array, "b m"]) -> Int[Array, "b q"]:
    """The target of each query; m for none."""
    b, q, m = costs.shape
    targets = jnp.arange(m, dtype=jnp.int32)
    lane = jnp.arange(b)

    cheapest = jnp.where(valid, _cheapest(costs), q)
    owner = jnp.full((b, q), m, jnp.int32)
    owner = owner.at[lane[:, None], cheapest].min(targets, mode="drop")
    got = jnp.take_along_axis(owner, jnp.minimum(cheapest, q - 1), axis=1) == targets
    waiting = valid & ~got

    def next_target(after: Int[Array, " b"]) -> Int[Array, " b"]:
        later = waiting & (targets > after[:, None])
        return jnp.where(later, targets, m).min(axis=1)

    def turn(state: _State) -> _State:
        state = _back(_forward(state, costs))
        found = state.backward & (state.query == q)
        target = jnp.where(found, next_target(state.target), state.target)
        return state.replace(
            target=target,
            distance=jnp.where(found[:, None], jnp.inf, state.distance),
            closed=state.closed & ~found[:, None],
            backward=state.backward & ~found,
        )

    start = _State(
        owner=owner,
        price=jnp.zeros((b, q)),
        target=next_target(jnp.full(b, -1)),
        distance=jnp.full((b, q), jnp.inf),
        parent=jnp.full((b, q), q, jnp.int32),
        closed=jnp.zeros((b, q), bool),
        query=jnp.full(b, q, jnp.int32),
        backward=jnp.zeros(b, bool),
    )
    return jax.lax.while_loop(lambda state: (state.target < m).any(), turn, start).owner


def _at(x: Shaped[Array, "b n"], index: Int[Array, " b"]) -> Shaped[Array, " b"]:
    """One entry of each row; an arbitrary one if the index is beyond the last."""
    index = jnp.minimum(index, x.shape[1] - 1)
    return jnp.take_along_axis(x, index[:, None], axis=1)[:, 0]


def _forward(state: _State, costs: Float[Array, "b q m"]) -> _State:
    """Closes the nearest open query of each problem that is still searching for a path."""
    b, q, m = costs.shape
    seeking = ~state.backward & (state.target < m)
    started = state.query < q
    # Queries are now reached from the target of the query that was closed last.
    target = jnp.where(started, _at(state.owner, state.query), state.target)
    row = costs[jnp.arange(b), :, jnp.minimum(target, m - 1)] - state.price
    offset = jnp.where(started, _at(state.distance, state.query) - _at(row, state.query), 0)

    length = row + offset[:, None]
    shorter = seeking[:, None] & ~state.closed & (length < state.distance)
    distance = jnp.where(shorter, length, state.distance)
    parent = jnp.where(shorter, state.query[:, None], state.parent)
    open_distance = jnp.where(state.closed, jnp.inf, distance)
    least = open_distance.min(axis=1)
    # Among equally near queries, prefer a free one, which ends the search.
    rank = jnp.arange(q, dtype=jnp.int32) + jnp.where(state.owner < m, q, 0)
    nearest = jnp.where(open_distance == least[:, None], rank, 2 * q).min(axis=1)
    query = jnp.where(seeking, nearest % q, state.query)
    found = seeking & (nearest < q)

    shift = jnp.where(state.closed & found[:, None], distance - least[:, None], 0)
    return state.replace(
        price=state.price + shift,
        distance=distance,
        parent=parent,
        closed=state.closed | (seeking[:, None] & (jnp.arange(q) == query[:, None])),
        query=query,
        backward=state.backward | found,
    )


def _back(state: _State) -> _State:
    """Moves one step back along a found path: a query takes the target of its parent."""
    q = state.owner.shape[1]
    parent = _at(state.parent, state.query)
    target = jnp.where(parent < q, _at(state.owner, parent), state.target)
    given = state.backward[:, None] & (jnp.arange(q) == state.query[:, None])
    return state.replace(
        owner=jnp.where(given, target[:, None], state.owner),
        query=jnp.where(state.backward, parent, state.query),
    )
