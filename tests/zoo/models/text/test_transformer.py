from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.conftest import read_golden
from zoo.registry import family_of
from zoo.text.decoding import Search, generate

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = {
    "vocab_size": 24,
    "hidden_dim": 16,
    "num_heads": 2,
    "mlp_dim": 32,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
}


@pytest.mark.parametrize("case", read_golden("transformer_huggingface").groups)
def test_finds_the_sequences_of_transformers(case):
    peer = read_golden("transformer_huggingface")
    beams, penalty, early = case.removeprefix("search/").split(",")
    search = Search(23, 0, 23, 12, int(beams), float(penalty), early == "True", forced_end=True)
    sources, _, valid, _ = peer.inputs
    found = jax.jit(partial(generate, peer.model, search=search))(peer.variables, sources, valid)
    expected = peer.groups[case][:, 1:]  # without the start token
    np.testing.assert_array_equal(found.tokens[:, : expected.shape[1]], expected)
    assert (np.asarray(found.tokens[:, expected.shape[1] :]) == 23).all()


@pytest.fixture(scope="module")
def drawn():
    """A tiny model with random values in every parameter, and a batch of three."""
    model = zoo.create("transformer_nano", **TINY, dropout=0.0)
    sources = jax.random.randint(jax.random.key(1), (3, 6), 1, 24)
    targets = jax.random.randint(jax.random.key(2), (3, 5), 1, 24)
    shapes = jax.eval_shape(model.init, jax.random.key(0), sources, targets)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.float32(rng.normal(0, 0.3, x.shape)), shapes)
    return model, variables, sources, targets


def test_a_later_target_changes_no_earlier_logit(drawn):
    model, variables, sources, targets = drawn
    apply = jax.jit(model.apply)
    logits = apply(variables, sources, targets)
    for place in range(5):
        other = targets.at[:, place].set((targets[:, place] + 1) % 24)
        moved = np.asarray(apply(variables, sources, other) != logits).any(axis=(0, 2))
        assert not moved[:place].any() and moved[place:].all()


def test_padding_changes_nothing(drawn):
    model, variables, sources, targets = drawn
    apply = jax.jit(model.apply)
    sources_valid = jnp.arange(6) < jnp.asarray([6, 4, 1])[:, None]
    targets_valid = jnp.arange(5) < jnp.asarray([3, 5, 1])[:, None]
    logits = apply(variables, sources, targets, sources_valid, targets_valid)
    other = [
        jnp.where(valid, tokens, 23 - tokens)
        for tokens, valid in ((sources, sources_valid), (targets, targets_valid))
    ]
    again = apply(variables, *other, sources_valid, targets_valid)
    np.testing.assert_array_equal(again[targets_valid], logits[targets_valid])
    memory = jax.jit(partial(model.apply, method="encode"))(variables, sources, sources_valid)
    alone = jax.jit(partial(model.apply, method="encode"))(variables, sources[1:2, :4])
    np.testing.assert_allclose(memory[1:2, :4], alone, atol=1e-5)


def test_encoder_alone():
    model = zoo.create("transformer_nano", **{**TINY, "num_decoder_layers": 0})
    tokens = jnp.ones((2, 3), jnp.int32)
    init = jax.jit(partial(model.init_with_output, method="encode"))
    states, variables = init(jax.random.key(0), tokens)
    assert states.shape == (2, 3, 16)
    assert set(variables["params"]) == {"embedding", "encoder_blocks_0", "encoder_blocks_1"}


def test_decoder_alone_is_causal_and_has_one_attention():
    model = zoo.create("transformer_nano", **{**TINY, "num_encoder_layers": 0})
    tokens = jnp.asarray([[1, 2, 3]])
    decode = jax.jit(partial(model.apply, method="decode"))
    variables = jax.jit(partial(model.init, method="decode"))(jax.random.key(0), tokens)
    assert set(variables["params"]["decoder_blocks_0"]) == {"attn", "mlp", "norm1", "norm3"}
    logits = decode(variables, tokens)
    np.testing.assert_array_equal(decode(variables, tokens.at[0, 2].set(9))[:, :2], logits[:, :2])
    np.testing.assert_allclose(decode(variables, tokens[:, :2]), logits[:, :2], atol=1e-5)


def test_attention_maps(drawn):
    model, variables, sources, targets = drawn
    valid = jnp.arange(6) < jnp.asarray([6, 4, 1])[:, None]
    apply = jax.jit(partial(model.apply, mutable=["intermediates"]))
    logits, sown = apply(variables, sources, targets, valid)
    expected = jax.jit(model.apply)(variables, sources, targets, valid)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    blocks = sown["intermediates"]
    shapes = {
        ("encoder_blocks_1", "attn"): (3, 2, 6, 6),
        ("decoder_blocks_1", "attn"): (3, 2, 5, 5),
        ("decoder_blocks_1", "cross_attn"): (3, 2, 5, 6),
    }
    for (block, name), shape in shapes.items():
        (maps,) = blocks[block][name]["attention"]
        assert maps.shape == shape
        np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)
    assert not np.asarray(maps[1, :, :, 4:]).any()


def test_scores_of_embeddings_are_the_logits(drawn):
    """Without blocks, logits are products of the embedding table and the embedded token."""
    model, variables, *_ = drawn
    bare = model.clone(num_decoder_layers=0, scale_embedding=False)
    params = {"params": {"embedding": variables["params"]["embedding"]}}
    tokens = jnp.asarray([[3]])
    table = variables["params"]["embedding"]["embedding"]
    position = np.tile([0.0, 1.0], 8)  # sines and cosines of position 0
    logits = bare.apply(params, tokens, method="decode")
    np.testing.assert_allclose(logits[0, 0], table @ (table[3] + position), atol=1e-5)


def test_heads_that_do_not_divide():
    model = zoo.create("transformer_nano").clone(num_heads=3)
    with pytest.raises(ValueError, match="128 features do not divide into 3 heads"):
        jax.eval_shape(model.init, jax.random.key(0), *family_of(model).example(model))


def test_text_models_have_no_preprocessing():
    with pytest.raises(zoo.types.InputError, match="transformer_base is not for images"):
        zoo.preprocessing("transformer_base")
