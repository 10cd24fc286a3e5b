"""The translation task: the inputs of a step, and whether the recipe learns to translate."""

import dataclasses
import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import zoo
from train.loop import train
from train.optim import OptimConfig, make_schedule
from train.recipes import RECIPES
from train.tasks.translation import Translation
from zoo.losses.translation import token_cross_entropy
from zoo.models.text.transformer.loss import TokenLoss
from zoo.types import InputError


def bundles(lengths, seed=0):
    """A batch of two bundles of two pairs, with targets of the given lengths."""
    rng = np.random.default_rng(seed)
    lengths = np.asarray(lengths).reshape(2, 2)
    tokens = {name: rng.integers(3, 20, (2, 2, 6)) for name in ("sources", "inputs", "targets")}
    return {
        **{name: jnp.asarray(x, jnp.int32) for name, x in tokens.items()},
        "index": jnp.arange(4).reshape(2, 2),
        "source_length": jnp.asarray(np.where(lengths > 0, 4, 0)),
        "target_length": jnp.asarray(lengths),
        "valid": jnp.ones(2, bool),
    }


@pytest.fixture(scope="module")
def model():
    fields = {"vocab_size": 20, "hidden_dim": 16, "mlp_dim": 32, "num_heads": 2}
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    return zoo.create("transformer_nano", **fields, **layers, dropout=0.0)


def loss_of(model, variables, batch, task=None):
    task = task or Translation()
    prepared = task.prepare(None, model, jax.random.key(0), batch)
    losses, metrics, changed = task.compute_loss(model, variables, jax.random.key(0), prepared)
    assert not changed
    return losses["loss"], metrics


def test_the_loss_is_the_mean_over_the_targets_tokens(model):
    task, batch = Translation(), bundles([6, 2, 0, 3])
    variables = jax.jit(partial(task.init, model))(jax.random.key(0), batch)
    loss, metrics = jax.jit(partial(loss_of, model))(variables, batch)
    apply = jax.jit(model.apply)
    total, hits = 0.0, 0
    for i, j, length in ((0, 0, 6), (0, 1, 2), (1, 1, 3)):
        source, inputs, targets = (batch[n][i, j][None] for n in ("sources", "inputs", "targets"))
        logits = apply(variables, source[:, :4], inputs[:, :length])
        total += float(token_cross_entropy(logits, targets[:, :length], 0.1).sum())
        hits += int((logits.argmax(-1) == targets[:, :length]).sum())
    assert float(loss.weight) == 11
    assert float(loss.total) == pytest.approx(total, rel=1e-4)
    assert float(metrics["token_accuracy"].total) == hits


def test_padding_has_no_gradient(model):
    batch = bundles([6, 2, 0, 3])
    variables = Translation().init(model, jax.random.key(0), batch)
    gradient = jax.jit(jax.grad(lambda v, b: loss_of(model, v, b)[0].total))
    before = gradient(variables, batch)
    places = jnp.arange(6)
    for names, length in (
        (("sources",), "source_length"),
        (("inputs", "targets"), "target_length"),
    ):
        padding = places >= batch[length][..., None]
        batch |= {name: jnp.where(padding, 22 - batch[name], batch[name]) for name in names}
    jax.tree.map(np.testing.assert_array_equal, gradient(variables, batch), before)


def test_the_papers_schedule():
    schedule = make_schedule(
        OptimConfig(learning_rate=512**-0.5 * 4_000**-0.5, schedule="rsqrt", warmup_steps=4_000),
        100_000,
    )
    for step in (1, 100, 4_000, 16_000, 100_000):
        expected = 512**-0.5 * min(step**-0.5, step * 4_000**-1.5)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)
    assert RECIPES["transformer_wmt14_en_de"]().optim.learning_rate == pytest.approx(
        float(schedule(4_000)), rel=1e-3
    )


@pytest.mark.parametrize(
    ("settings", "fields"),
    [(TokenLoss, {"label_smoothing": 1.0}), (Translation, {"eval_pairs": 0})],
)
def test_bad_fields(settings, fields):
    with pytest.raises(InputError, match=f"{next(iter(fields))} is"):
        settings(**fields)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_98_percent_of_the_held_out_numbers(tmp_path):
    result = train(RECIPES["transformer_number_words"](), tmp_path, Console(file=io.StringIO()))
    assert result.figures["exact_match"] >= 0.98
    found = zoo.translate(tmp_path, ["twenty one", "seven thousand and nine"])
    assert found == ["einundzwanzig", "siebentausendneun"]


@dataclasses.dataclass(frozen=True)
class WrongPairs(Translation):
    """Trains on targets that belong to other sources."""

    def prepare(self, data, model, key, batch):
        targets = {k: batch[k][::-1] for k in ("inputs", "targets", "target_length")}
        return super().prepare(data, model, key, {**batch, **targets})


@pytest.mark.slow
def test_wrong_pairs_teach_nothing(tmp_path):
    config = RECIPES["transformer_number_words"]()
    config = dataclasses.replace(config, task=WrongPairs(), steps=300, eval_every=300)
    result = train(config, tmp_path, Console(file=io.StringIO()))
    assert result.figures["exact_match"] < 0.02
