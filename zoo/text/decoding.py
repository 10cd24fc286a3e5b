"""Decoding: finds whole sequences with a model that scores the next token.

`greedy_search` and `beam_search` are pure functions of a step, ``(last tokens, position, state) ->
(logits, state)``; `generate` runs either of them with a `Transformer`'s key/value cache. A search
is one program with static shapes: a `while_loop` that ends as soon as no sequence can change any
more. Under `jax.jit`, it compiles once for each shape of the sources.

Both give the same sequences as Hugging Face's ``generate`` without sampling, except for ties.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

# (last tokens [n], their position [], state) -> (logits [n v], state). Every leaf of the state has
# the leading axis n, because a search reorders the rows.
Step = Callable[[Int[Array, " n"], Int[Array, ""], PyTree], tuple[Float[Array, "n v"], PyTree]]

_NEVER = -1e9  # score of a choice that is ruled out; finite, so that sums stay comparable


@dataclasses.dataclass(frozen=True)
class Search:
    """How sequences begin and end, and how they are searched.

    Attributes:
        start_id: Token before the first.
        end_id: Token that ends a sequence.
        pad_id: Token that fills the rest of a sequence, and is never chosen.
        max_length: Most tokens of a sequence, the end included.
        num_beams: Number of sequences kept at a time; 1 is greedy search.
        length_penalty: A sequence's score is the sum of its log-probabilities, divided by its
            length to this power. Long sequences have smaller sums; a power above 0 favours them.
        early_stopping: Whether a search ends when `num_beams` sequences have ended; otherwise it
            ends when no running sequence, at its present length, scores better than those.
        forced_end: Whether token number `max_length` is always the end, whatever its score.
    """

    start_id: int
    end_id: int
    pad_id: int
    max_length: int
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    forced_end: bool = False


class Sequences(struct.PyTreeNode):
    """Decoded sequences.

    Attributes:
        tokens: Without the start; padding after the end.
        scores: As `Search.length_penalty` defines them.
    """

    tokens: Int[Array, "b t"]
    scores: Float[Array, " b"]


def _log_probabilities(
    logits: Float[Array, "n v"], position: Int[Array, ""], search: Search
) -> Float[Array, "n v"]:
    """Log-probabilities of the next tokens; -inf for those that the search rules out."""
    scores = jax.nn.log_softmax(logits.astype(jnp.float32))
    tokens = jnp.arange(scores.shape[-1])
    scores = jnp.where(tokens == search.pad_id, -jnp.inf, scores)
    if search.forced_end:
        only_end = jnp.where(tokens == search.end_id, 0.0, -jnp.inf)
        scores = jnp.where(position == search.max_length - 1, only_end, scores)
    return scores


class _Greedy(NamedTuple):
    """The state of a greedy search."""

    position: Int[Array, ""]
    last: Int[Array, " n"]  # last token of each sequence
    tokens: Int[Array, "n t"]
    sums: Float[Array, " n"]  # of log-probabilities
    ended: Bool[Array, " n"]
    state: PyTree  # of the step


def greedy_search(
    step: Step, state: PyTree, active: Bool[Array, " n"], search: Search
) -> Sequences:
    """Takes the most likely token at each position; for the arguments see `beam_search`."""
    count = active.shape[0]

    def body(c: _Greedy) -> _Greedy:
        logits, state = step(c.last, c.position, c.state)
        scores = _log_probabilities(logits, c.position, search)
        chosen = jnp.where(c.ended, search.pad_id, scores.argmax(axis=-1))
        sums = c.sums + jnp.where(c.ended, 0.0, scores.max(axis=-1))
        ended = c.ended | (chosen == search.end_id)
        tokens = c.tokens.at[:, c.position].set(chosen)
        return _Greedy(c.position + 1, chosen, tokens, sums, ended, state)

    last = jax.lax.while_loop(
        lambda c: (c.position < search.max_length) & ~c.ended.all(),
        body,
        _Greedy(
            jnp.int32(0),
            jnp.full(count, search.start_id, jnp.int32),
            jnp.full((count, search.max_length), search.pad_id, jnp.int32),
            jnp.zeros(count),
            ~active,
            state,
        ),
    )
    lengths = jnp.maximum(jnp.sum(last.tokens != search.pad_id, axis=-1), 1)
    return Sequences(last.tokens, last.sums / lengths**search.length_penalty)


class _Beams(NamedTuple):
    """The state of a beam search: k running sequences and the k best ended ones of each example."""

    position: Int[Array, ""]
    running: Int[Array, "b k t"]
    sums: Float[Array, "b k"]
    best: Int[Array, "b k t"]
    scores: Float[Array, "b k"]
    ended: Bool[Array, "b k"]
    open: Bool[Array, "b 1"]  # whether a running sequence may still beat the ended ones
    state: PyTree


def beam_search(step: Step, state: PyTree, active: Bool[Array, " b"], search: Search) -> Sequences:
    """The best sequence found by a beam search, for each of b examples.

    In each step, the `num_beams` most likely sequences of an example that have not ended are
    continued. A sequence that ends counts if it is among the `num_beams` best continuations of its
    step.

    Args:
        step: The model; it gets ``b * num_beams`` rows, those of an example one after another.
        state: First state of the step, with the same number of rows.
        active: False for padding examples: their sequences stay padding, and the search does not
            wait for them.
        search: The rules of the search.
    """
    count, k, t = active.shape[0], search.num_beams, search.max_length

    def goes_on(beams: _Beams) -> Bool[Array, ""]:
        going = beams.open.any()
        if search.early_stopping:
            going &= ~(beams.ended.all(axis=-1) | ~active).all()
        return going & (beams.position < t)

    empty = jnp.full((count, k, t), search.pad_id, jnp.int32)
    first_alone = jnp.where(jnp.arange(k) == 0, 0.0, _NEVER)  # at first all beams are equal
    beams = _Beams(
        jnp.int32(0),
        empty,
        jnp.broadcast_to(first_alone, (count, k)),
        empty,
        jnp.full((count, k), _NEVER),
        jnp.zeros((count, k), bool),
        active[:, None],
        state,
    )
    beams = jax.lax.while_loop(goes_on, partial(_next_beams, step, search), beams)
    return Sequences(beams.best[:, 0], beams.scores[:, 0])


def _take(x: Shaped[Array, "b k *t"], rows: Int[Array, "b j"]) -> Shaped[Array, "b j *t"]:
    """The given rows of each example."""
    return jnp.take_along_axis(x, rows.reshape(*rows.shape, *[1] * (x.ndim - 2)), axis=1)


def _next_beams(step: Step, search: Search, beams: _Beams) -> _Beams:
    """One more token for every running sequence."""
    (b, k, _), at = beams.running.shape, beams.position
    before = jax.lax.dynamic_index_in_dim(beams.running, jnp.maximum(at - 1, 0), 2, keepdims=False)
    last = jnp.where(at == 0, search.start_id, before)
    logits, state = step(last.reshape(-1), at, beams.state)
    scores = _log_probabilities(logits, at, search).reshape(b, k, -1)

    # Twice as many as beams: at most half of them end here, so enough are left to continue.
    sums, chosen = jax.lax.top_k((beams.sums[..., None] + scores).reshape(b, -1), 2 * k)
    parents, tokens = jnp.divmod(chosen, scores.shape[-1])
    sequences = _take(beams.running, parents).at[:, :, at].set(tokens)
    ends = (tokens == search.end_id) | (at == search.max_length - 1)

    final = sums / (at + 1.0) ** search.length_penalty
    counts = ends & (jnp.arange(2 * k) < k) & beams.open
    if search.early_stopping:
        counts &= ~beams.ended.all(axis=-1, keepdims=True)
    merged = jnp.concatenate([beams.scores, jnp.where(counts, final, final + _NEVER)], axis=1)
    best_scores, best = jax.lax.top_k(merged, k)
    ended = _take(jnp.concatenate([beams.ended, counts], axis=1), best)

    sums, going = jax.lax.top_k(jnp.where(ends, sums + _NEVER, sums), k)
    worst = jnp.where(ended, best_scores.min(axis=-1, keepdims=True), _NEVER)
    hope = sums[:, :1] / (at + 1.0) ** search.length_penalty
    rows = (_take(parents, going) + k * jnp.arange(b)[:, None]).reshape(-1)
    return _Beams(
        at + 1,
        _take(sequences, going),
        sums,
        _take(jnp.concatenate([beams.best, sequences], axis=1), best),
        best_scores,
        ended,
        beams.open & (hope > worst).any(axis=-1, keepdims=True),
        jax.tree.map(lambda x: x[rows], state),
    )


def generate(
    model: nn.Module,
    variables: Mapping[str, Any],
    sources: Int[Array, "b s"],
    sources_valid: Bool[Array, "b s"],
    search: Search,
) -> Sequences:
    """Decodes targets with a model that has the methods `encode` and `decode` of `Transformer`.

    Every token is computed once: the keys and values of earlier tokens are kept. A source without
    a valid token is padding, and its target is all padding.
    """
    count, k = sources.shape[0], search.num_beams
    states: Any = model.apply(variables, sources, sources_valid, method="encode")
    states, valid = (jnp.repeat(x, k, axis=0) for x in (states, sources_valid))
    decode = partial(model.apply, method="decode")
    # Only the projected sources and the shapes of the cache are used from this call; the compiler
    # drops the rest.
    places = jnp.zeros((count * k, search.max_length), jnp.int32)
    _, kept = decode(variables, places, states, valid, position=0, mutable=["cache", "memory"])
    fixed = {**variables, "memory": kept["memory"]}

    def step(
        tokens: Int[Array, " n"], position: Int[Array, ""], cache: PyTree
    ) -> tuple[Float[Array, "n v"], PyTree]:
        held = {**fixed, "cache": cache}
        logits, changed = decode(
            held, tokens[:, None], states, valid, position=position, mutable=["cache"]
        )
        return logits[:, 0], changed["cache"]

    find = greedy_search if k == 1 else beam_search
    return find(
        step, jax.tree.map(jnp.zeros_like, kept["cache"]), sources_valid.any(axis=-1), search
    )
