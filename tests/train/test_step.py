import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.model import build, complete
from train.step import first_metrics, make_init, make_logged, make_step
from train.tasks import Mean
from train.tasks.classification import Classification
from zoo.data import train_batches


@pytest.fixture
def setup(tiny):
    """Config, model, optimizer, state and batch of a tiny run."""

    def make(*overrides, **fields):
        config = dataclasses.replace(tiny(*overrides), **fields)
        examples = config.task.open(config.data, "train")
        config = complete(config, examples)
        batch = next(train_batches(examples, config.batch_size, seed=0))
        model, _ = build(config, batch)
        optimizer = optax.sgd(0.5)
        state = jax.jit(make_init(config, model, optimizer))(batch)
        # The head starts at zero, so other parameters would get no gradient: add noise to it.
        noise = jax.random.normal(jax.random.key(9), state.params["head"]["kernel"].shape)
        state.params["head"]["kernel"] += 0.1 * noise
        return config, model, optimizer, state, batch

    return make


def test_the_loss_is_optaxs_cross_entropy(setup):
    config, model, optimizer, state, batch = setup()
    state_after, means = jax.jit(make_step(config, model, optimizer))(state, batch)
    images = (batch["image"] / 255.0 - 0.5) / 0.5
    logits = model.apply({"params": state.params}, jnp.asarray(images, jnp.float32))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    np.testing.assert_allclose(means["loss"].value(), expected, rtol=1e-5)
    top1 = (logits.argmax(-1) == batch["label"]).mean()
    np.testing.assert_allclose(means["top1"].value(), top1, rtol=1e-6)
    assert state_after.step == 1


@pytest.mark.parametrize("loss_name", ["softmax", "sigmoid"])
def test_accumulation_equals_the_large_batch(setup, loss_name):
    task = Classification(loss_name=loss_name, label_smoothing=0.1)
    config, model, optimizer, state, batch = setup("--accumulate=4", "--data.mixup=0.2", task=task)
    # The parts have different numbers of valid examples, and one part has none.
    batch["valid"] = np.arange(16) % 4 < np.array([1, 3, 3, 3] * 4)
    batch["valid"][:4] = True
    whole = dataclasses.replace(config, accumulate=1)
    after_parts, parts = jax.jit(make_step(config, model, optimizer))(state, batch)
    after_whole, means = jax.jit(make_step(whole, model, optimizer))(state, batch)
    np.testing.assert_allclose(parts["loss"].value(), means["loss"].value(), rtol=1e-5)
    np.testing.assert_allclose(parts["top1"].value(), means["top1"].value(), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        after_parts.params,
        after_whole.params,
    )


@pytest.mark.parametrize("loss_name", ["softmax", "sigmoid"])
def test_invalid_examples_change_nothing(setup, loss_name):
    task = Classification(loss_name=loss_name)
    config, model, optimizer, state, batch = setup(task=task)
    step = jax.jit(make_step(config, model, optimizer))
    batch["valid"] = np.arange(16) < 11
    _, means = step(state, batch)
    garbage = {**batch, "image": batch["image"].copy(), "label": batch["label"].copy()}
    garbage["image"][11:] = 255
    garbage["label"][11:] = 3
    _, same = step(state, garbage)
    jax.tree.map(np.testing.assert_array_equal, means, same)
    assert means["top1"].weight == 11


def test_label_smoothing_spreads_the_target(setup):
    config, model, *_, batch = setup()
    task = Classification(label_smoothing=0.2)
    targets = task.prepare(config.data, model, jax.random.key(0), batch)["targets"]
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(targets.max(-1), 0.8 + 0.02, rtol=1e-6)


def test_ema_follows_the_variables_with_a_decay_that_warms_up(setup):
    config, model, optimizer, state, batch = setup("--ema=0.75")
    step = jax.jit(make_step(config, model, optimizer))
    for count, decay in ((0, 1 / 10), (2, 3 / 12), (100, 0.75)):
        before = state.replace(
            step=jnp.int32(count), ema=jax.tree.map(jnp.zeros_like, {"params": state.params})
        )
        after, _ = step(before, batch)
        jax.tree.map(
            lambda average, new, share=1 - decay: np.testing.assert_allclose(
                average, share * new, rtol=1e-5, atol=1e-8
            ),
            after.ema["params"],
            after.params,
        )
        assert after.evaluated() is after.ema


def test_means_are_over_the_steps_since_the_last_logged_one(setup):
    config, model, optimizer, state, batch = setup()
    step = make_step(config, model, optimizer)
    logged = jax.jit(make_logged(step, lambda count: 0.5 * count, 2))
    metrics = first_metrics(step, state, batch)
    losses, logs = [], []
    for _ in range(4):
        _, means = jax.jit(step)(state, batch)
        losses.append(float(means["loss"].value()))
        state, metrics = logged(state, metrics, batch)
        logs.append(float(metrics.means["loss"].value()))
    np.testing.assert_allclose(
        logs,
        [losses[0], np.mean(losses[:2]), losses[2], np.mean(losses[2:])],
        rtol=1e-5,
    )
    assert metrics.bad_step == -1
    assert metrics.learning_rate == 0.5 * 3  # the rate of the fourth step, after three steps


def test_the_first_bad_step_is_remembered(setup):
    config, model, optimizer, state, batch = setup()
    step = make_step(config, model, optimizer)
    logged = jax.jit(make_logged(step, lambda count: 0.5, 100))
    metrics = first_metrics(step, state, batch)
    state, metrics = logged(state, metrics, batch)
    state.params["head"]["bias"] += jnp.nan
    for _ in range(2):
        state, metrics = logged(state, metrics, batch)
    assert metrics.bad_step == 2


def test_mean_of_nothing_is_zero():
    assert Mean.of(jnp.ones(3), jnp.zeros(3)).value() == 0
    both = Mean.of(jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0])) + Mean(
        jnp.float32(9), jnp.float32(1)
    )
    np.testing.assert_allclose(both.value(), 16 / 5)
