import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.conftest import read_golden
from zoo.text.decoding import Search, beam_search, generate, greedy_search

PAD, START, END = 0, 1, 2
SEARCH = Search(START, END, PAD, max_length=5, num_beams=3)


def table_step(logits):
    """A step that looks up logits [b t v v] by position and last token, for b * beams rows."""

    def step(tokens, position, state):
        rows = state // (len(state) // len(logits))
        return logits[rows, position, tokens], state

    return step


def run(logits, search, active=None):
    count = len(logits)
    active = jnp.ones(count, bool) if active is None else active
    state = jnp.arange(count * search.num_beams)
    find = greedy_search if search.num_beams == 1 else beam_search
    return find(table_step(jnp.asarray(logits)), state, active, search)


def tables(count=6, length=5, vocab=6, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (count, length, vocab, vocab)).astype("f")


def all_sequences(logits, search):
    """Every possible sequence with its score, computed slowly from the definition."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    found = {}
    others = [token for token in range(logits.shape[-1]) if token not in (PAD, END)]
    for length in range(1, search.max_length + 1):
        for start in itertools.product(others, repeat=length - 1):
            for last in [END] if length < search.max_length else [END, *others]:
                sequence = (*start, last)
                before = (START, *sequence[:-1])
                total = sum(
                    scores[at, a, b] for at, (a, b) in enumerate(zip(before, sequence, strict=True))
                )
                found[sequence] = total / length**search.length_penalty
    return found


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
def test_many_beams_find_the_best_of_all_sequences(penalty):
    search = dataclasses.replace(SEARCH, max_length=3, num_beams=40, length_penalty=penalty)
    logits = tables(length=3, vocab=8)
    found = jax.jit(partial(run, search=search))(logits)
    for row, table in enumerate(logits):
        every = all_sequences(table, search)
        best = max(every, key=lambda sequence: every[sequence])
        tokens = [t for t in found.tokens[row].tolist() if t != PAD]
        if penalty <= 1:  # else a long sequence may be best whose beam was dropped early
            assert tuple(tokens) == best
        np.testing.assert_allclose(found.scores[row], every[tuple(tokens)], rtol=1e-5)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_more_beams_are_seldom_worse_and_scores_are_true(early_stopping):
    logits = tables(count=40)
    totals = []
    for beams in (1, 2, 6):
        search = dataclasses.replace(
            SEARCH, num_beams=beams, early_stopping=early_stopping, length_penalty=0.0
        )
        found = run(logits, search)
        for row, table in enumerate(logits[:4]):
            tokens = tuple(t for t in found.tokens[row].tolist() if t != PAD)
            np.testing.assert_allclose(
                found.scores[row], all_sequences(table, search)[tokens], rtol=1e-5
            )
        totals.append(float(found.scores.mean()))
    assert totals[0] < totals[1] < totals[2] or early_stopping


def test_one_beam_is_greedy():
    logits = tables(count=20)
    search = dataclasses.replace(SEARCH, num_beams=1)
    greedy = run(logits, search)
    state = jnp.arange(20)
    beam = beam_search(table_step(jnp.asarray(logits)), state, jnp.ones(20, bool), search)
    for row, table in enumerate(logits):
        last, expected = START, []
        while len(expected) < 5 and last != END:
            scores = np.where(np.arange(6) == PAD, -np.inf, table[len(expected), last])
            last = int(scores.argmax())
            expected.append(last)
        assert [t for t in greedy.tokens[row].tolist() if t != PAD] == expected
    # A beam search may also end with a sequence whose continuation would have been more likely.
    assert (np.asarray(beam.scores) >= np.asarray(greedy.scores) - 1e-5).mean() > 0.8


@pytest.mark.parametrize("beams", [1, 3])
def test_an_example_does_not_depend_on_the_others(beams):
    logits, search = tables(count=12), dataclasses.replace(SEARCH, num_beams=beams)
    together = run(logits, search)
    for row in range(12):
        alone = run(logits[row : row + 1], search)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])


@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_not_active_is_padding(beams):
    active = jnp.asarray([True, False, True])
    found = run(tables(count=3), dataclasses.replace(SEARCH, num_beams=beams), active)
    assert not np.asarray(found.tokens[1]).any()
    assert np.asarray(found.tokens[jnp.asarray([0, 2])]).any(axis=1).all()
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("beams", [1, 3])
def test_forced_end(beams):
    logits = tables(count=8)
    logits[..., END] = -50
    free = run(logits, dataclasses.replace(SEARCH, num_beams=beams))
    forced = run(logits, dataclasses.replace(SEARCH, num_beams=beams, forced_end=True))
    assert not np.asarray(free.tokens == END).any()
    assert np.asarray(forced.tokens[:, -1] == END).all()


def uncached(model, variables, sources, valid, search):
    """Like `generate`, but computes everything again for every token."""

    def step(tokens, position, state):
        targets, states, states_valid = state
        targets = targets.at[:, position].set(tokens)
        logits = model.apply(variables, targets, states, states_valid, method="decode")
        return logits[:, position], (targets, states, states_valid)

    k = search.num_beams
    states = model.apply(variables, sources, valid, method="encode")
    places = jnp.zeros((len(sources) * k, search.max_length), jnp.int32)
    state = (places, *(jnp.repeat(x, k, axis=0) for x in (states, valid)))
    find = greedy_search if k == 1 else beam_search
    return find(step, state, valid.any(axis=1), search)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("case", ["transformer_huggingface", "transformer_torch_pre_norm"])
def test_cached_equals_uncached(case, beams):
    peer = read_golden(case)
    model, variables = peer.model, peer.variables
    sources, _, valid, _ = peer.inputs
    valid = valid.at[3].set(False)  # an empty source
    search = Search(start_id=23, end_id=0, pad_id=23, max_length=10, num_beams=beams)
    found = jax.jit(partial(generate, model, search=search))(variables, sources, valid)
    expected = jax.jit(partial(uncached, model, search=search))(variables, sources, valid)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    assert (np.asarray(found.tokens[3]) == 23).all()
    if case == "transformer_huggingface":  # its tokens differ clearly
        assert len(set(np.asarray(found.tokens).ravel().tolist())) > 4


def test_one_program_for_sources_of_one_shape():
    model = zoo.create("transformer_nano", num_encoder_layers=1, num_decoder_layers=1)
    variables = model.init(jax.random.key(0), *(jnp.ones((1, 1), jnp.int32),) * 2)
    search = Search(START, END, PAD, max_length=4)
    decode = jax.jit(partial(generate, model, search=search))
    for length in (1, 3, 4):
        decode(variables, jnp.full((2, 4), 5), jnp.arange(4) < jnp.full((2, 1), length))
    assert decode._cache_size() == 1
