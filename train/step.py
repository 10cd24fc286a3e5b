"""One pure training step, on the whole batch at once or with one replica on each device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from train.config import Config
from train.multipliers import freeze
from train.tasks import Batch, Mean


class TrainState(struct.PyTreeNode):
    """The state of a run that a step changes; its arrays are donated to the step.

    Attributes:
        step: Number of steps done.
        key: Data of the random key from which the key of every step is derived.
        params: Parameters.
        model_state: The model's other collections, such as batch statistics.
        opt_state: State of the optimiser.
        ema: Moving averages of all variables, by collection; None if the run has none.
    """

    step: Int[Array, ""]
    key: UInt32[Array, " n"]
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    ema: PyTree

    def evaluated(self) -> dict[str, Any]:
        """The variables to evaluate: the moving averages if there are any, else the latest."""
        return {"params": self.params, **self.model_state} if self.ema is None else self.ema


class Metrics(struct.PyTreeNode):
    """The figures of a step; not donated, so that they can be fetched while the next steps run.

    Attributes:
        means: Means since the last logged step, by name.
        learning_rate: Learning rate of the last step.
        bad_step: Number of the first step whose loss or gradient is not finite; -1 if there is
            none.
    """

    means: dict[str, Mean]
    learning_rate: Float[Array, ""]
    bad_step: Int[Array, ""]


Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Mean]]]
LoggedStep = Callable[[TrainState, Metrics, Batch], tuple[TrainState, Metrics]]


def make_init(
    config: Config, model: nn.Module, optimizer: optax.GradientTransformation
) -> Callable[[Batch], TrainState]:
    """A function that gives the first state; of the batch it uses the shapes alone."""

    def init(batch: Batch) -> TrainState:
        key = jax.random.key(config.seed)
        variables = dict(config.task.init(model, key, jax.tree.map(lambda x: x[:1], batch)))
        params = variables.pop("params")
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(jax.random.fold_in(key, 1)),
            params=params,
            model_state=variables,
            opt_state=optimizer.init(params),
            ema=None
            if config.ema is None
            else jax.tree.map(jnp.copy, {"params": params, **variables}),
        )

    return init


def with_initial(
    state: TrainState, initial: Mapping[str, Any], place: Callable[[PyTree], PyTree]
) -> TrainState:
    """The first state with given variables in place of random ones, for all or part of the model.

    Args:
        state: The first state.
        initial: Variables by collection.
        place: Moves a tree to the devices, split as the state is.
    """
    variables = {"params": state.params, **state.model_state}
    flat = {**flatten_dict(variables), **flatten_dict(place(initial))}
    variables = unflatten_dict(flat)
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    params = variables.pop("params")
    return state.replace(params=params, model_state=variables, ema=ema)


def make_step(
    config: Config,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    replicas: Mesh | None = None,
) -> Step:
    """The step of a run: a pure function of the state and of a batch from the loader.

    Args:
        config: Settings of the run.
        model: Model of the run.
        optimizer: Optimiser of the run.
        replicas: Devices on which replicas compute the gradients, each of its own rows of the
            batch, and sum them over all replicas. With None, the gradients of the whole batch are
            computed at once.
    """
    if replicas is None:
        gradients = _make_gradients(config, model, _alone)
    else:
        gradients = _on_replicas(config, model, replicas)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Mean]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        prepare_key, loss_key = jax.random.split(key)
        batch = config.task.prepare(config.data, model, prepare_key, batch)
        grads, means, model_state = gradients(state.params, state.model_state, loss_key, batch)
        means["grad_norm"] = Mean(optax.tree.norm(grads), jnp.ones(()))

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = None
        if config.ema is not None:
            ema = _average(state, {"params": params, **model_state}, config.ema)
        return TrainState(state.step + 1, state.key, params, model_state, opt_state, ema), means

    return step


def _average(state: TrainState, variables: PyTree, decay: float) -> PyTree:
    """Updates the moving average with new variables.

    After t steps the decay is at most (1 + t) / (10 + t), as in TensorFlow and timm, so that the
    average of a short run is useful too.
    """
    new = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return optax.incremental_update(variables, state.ema, new)


def make_logged(step: Step, schedule: optax.Schedule, log_every: int) -> LoggedStep:
    """The step with means that are summed on the device from one logged step to the next."""

    def logged(state: TrainState, metrics: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        fresh = state.step % log_every == 0
        rate = jnp.asarray(schedule(state.step), jnp.float32)
        state, means = step(state, batch)
        finite = jnp.isfinite(means["loss"].total) & jnp.isfinite(means["grad_norm"].total)
        bad_step = jnp.where((metrics.bad_step < 0) & ~finite, state.step, metrics.bad_step)
        means = jax.tree.map(lambda sum_, x: jnp.where(fresh, x, sum_ + x), metrics.means, means)
        return state, Metrics(means, rate, bad_step)

    return logged


def first_metrics(step: Step, state: TrainState, batch: Batch) -> Metrics:
    """The metrics before the first step: zeros, with the names of the step's means."""
    _, means = jax.eval_shape(step, state, batch)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), means)
    return Metrics(zeros, jnp.zeros(()), jnp.int32(-1))


def _alone(tree: PyTree) -> PyTree:
    """The sum over the replicas, where there is only one."""
    return tree


def _on_replicas(config: Config, model: nn.Module, mesh: Mesh) -> Callable[..., tuple]:
    """The function of `_make_gradients`, run by one replica on each device for its rows."""
    axis = mesh.axis_names[0]
    total = partial(jax.lax.psum, axis_name=axis)
    gradients = _make_gradients(config, model, total)

    def with_axis(run: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        """Makes every `nn.BatchNorm` of the model use the statistics of all replicas' rows."""
        if isinstance(context.module, nn.BatchNorm):
            object.__setattr__(context.module, "axis_name", axis)
        return run(*args, **kwargs)

    def replica(
        params: PyTree, model_state: PyTree, key: Key[Array, ""], batch: Batch
    ) -> tuple[PyTree, dict[str, Mean], PyTree]:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        with nn.intercept_methods(with_axis):
            grads, means, model_state = gradients(params, model_state, key, batch)
        return grads, means, jax.lax.pmean(model_state, axis)

    everywhere, rows = PartitionSpec(), PartitionSpec(axis)
    # Without the check, since in a task's loops equal values may become unequal between replicas.
    return jax.shard_map(
        replica,
        mesh=mesh,
        in_specs=(everywhere, everywhere, everywhere, rows),
        out_specs=everywhere,
        check_vma=False,
    )


def _make_gradients(
    config: Config, model: nn.Module, total: Callable[[PyTree], PyTree]
) -> Callable[..., tuple]:
    """A function that gives gradients, means by name and new collections for a prepared batch.

    `total` sums over the replicas, each of which sees its rows of the batch.
    """
    objective = _make_objective(config, model, total)
    gradient = jax.value_and_grad(objective, has_aux=True)
    if config.accumulate > 1:
        return _in_parts(config.accumulate, objective, gradient, total)

    def whole(
        params: PyTree, model_state: PyTree, key: Key[Array, ""], batch: Batch
    ) -> tuple[PyTree, dict[str, Mean], PyTree]:
        (loss, (means, model_state, _)), grads = gradient(params, model_state, key, batch)
        loss, means, grads = total((loss, means, grads))
        return grads, {"loss": Mean(loss, jnp.ones(())), **means}, model_state

    return whole


def _make_objective(
    config: Config, model: nn.Module, total: Callable[[PyTree], PyTree]
) -> Callable[..., tuple]:
    """A function that gives the loss of a batch, or of a part of it; see `_make_gradients`."""

    def objective(
        params: PyTree,
        model_state: Mapping[str, Any],
        key: Key[Array, ""],
        batch: Batch,
        weights: dict[str, Float[Array, ""]] | None = None,
    ) -> tuple[Float[Array, ""], tuple]:
        """The sum of the losses, each divided by its entry in `weights`, or by its own weight."""
        variables = {"params": freeze(params, config.optim.multipliers), **model_state}
        losses, means, model_state = config.task.compute_loss(model, variables, key, batch)
        over = weights or total({name: loss.weight for name, loss in losses.items()})
        shares = [Mean(loss.total, over[name]).value() for name, loss in losses.items()]
        if len(losses) > 1:
            means = {**losses, **means}
        return jnp.sum(jnp.stack(shares)), (means, model_state, losses)

    return objective


def _in_parts(
    count: int,
    objective: Callable[..., tuple],
    gradient: Callable[..., tuple],
    total: Callable[[PyTree], PyTree],
) -> Callable[..., tuple]:
    """The function of `_make_gradients`, which computes a batch in `count` parts, one by one.

    The losses of all parts are divided by the weights of the whole batch, so that the gradients are
    those of the whole batch.
    """

    def in_parts(
        params: PyTree, model_state: PyTree, key: Key[Array, ""], batch: Batch
    ) -> tuple[PyTree, dict[str, Mean], PyTree]:
        parts = jax.tree.map(
            # Every `count`-th row, so that a part has an equal share of each device's rows.
            lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1),
            batch,
        )
        keys = jax.random.split(key, count)

        def weigh(key_and_part: tuple) -> dict[str, Float[Array, ""]]:
            # Only the losses' weights are returned; XLA drops the computation of everything else.
            _, (_, _, losses) = objective(params, model_state, *key_and_part)
            return {name: loss.weight for name, loss in losses.items()}

        weights = total(jax.tree.map(lambda x: x.sum(axis=0), jax.lax.map(weigh, (keys, parts))))

        def add(carry: tuple, key_and_part: tuple) -> tuple:
            grads, model_state = carry
            (loss, (means, model_state, _)), part_grads = gradient(
                params, model_state, *key_and_part, weights
            )
            return (jax.tree.map(jnp.add, grads, part_grads), model_state), (loss, means)

        zeros = jax.tree.map(jnp.zeros_like, params)
        (grads, model_state), (losses, means) = jax.lax.scan(
            add, (zeros, model_state), (keys, parts)
        )
        means = jax.tree.map(lambda x: x.sum(axis=0), means)
        loss, means, grads = total((losses.sum(), means, grads))
        return grads, {"loss": Mean(loss, jnp.ones(())), **means}, model_state

    return in_parts
