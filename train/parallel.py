"""How a training step is spread over devices: one jitted program over a mesh of global arrays.

``data``: every device holds the whole state and computes its rows of the batch. ``fsdp``: each
array of the state is split along the largest of its axes whose length divides over the mesh's
second axis, and gathered where it is used (ZeRO, arXiv 1910.02054, stage 3). ``pmap``: every device
holds the whole state, and one replica a device computes the gradients; replicas communicate only
where a sum over the whole batch is needed (see `train.step`). All three compute the gradients, and
so the losses, of the same global batch. The random numbers that a task draws in `prepare` are the
same in all three; those that the model draws, such as dropout, differ in ``pmap``, where each
replica draws its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree, Shaped

from train.config import Config, ConfigError
from train.step import LoggedStep, Metrics, TrainState
from train.tasks import Batch
from zoo.data.devices import batch_sharding, place, put_batch


def check_divides(batch_size: int, devices: int, accumulate: int) -> None:
    """Raises ConfigError, with the nearest sizes that fit, if a batch has no equal shares."""
    shares = devices * accumulate
    if batch_size % shares:
        below = batch_size // shares * shares
        near = " or ".join(str(size) for size in (below, below + shares) if size)
        raise ConfigError(
            f"batch_size={batch_size} does not divide into {shares} shares ({devices} devices,"
            f" accumulate={accumulate}); take {near}"
        )


def make_mesh(config: Config) -> Mesh:
    """A mesh of all devices with the axes ``data`` and ``fsdp``.

    Raises:
        ConfigError: If the product of the two lengths asked for is not the number of devices.
    """
    count, data, fsdp = jax.device_count(), config.mesh.data, config.mesh.fsdp
    if config.parallel != "fsdp":
        if (fsdp or 1) != 1:
            raise ConfigError(f"mesh.fsdp={fsdp} needs --parallel=fsdp")
        fsdp = 1
    fsdp = fsdp or count // (data or 1)
    data = data or count // fsdp
    if data * fsdp != count:
        raise ConfigError(
            f"mesh.data={data} times mesh.fsdp={fsdp} is not the number of devices, {count}"
        )
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def shard(mesh: Mesh, tree: PyTree) -> PyTree:
    """The sharding of each array of a tree over the mesh's axis ``fsdp``.

    An array is split along its largest axis whose length divides over ``fsdp``, the first one of
    equal length. An array without such an axis is copied to every device.
    """
    parts = mesh.shape["fsdp"]

    def spec(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % parts == 0 and parts > 1]
        largest = max(axes, key=lambda axis: x.shape[axis], default=None)
        cut = ["fsdp" if axis == largest else None for axis in range(x.ndim)]
        return NamedSharding(mesh, PartitionSpec(*cut) if axes else PartitionSpec())

    return jax.tree.map(spec, tree)


def keep_rows(step: LoggedStep, rows: NamedSharding, part: int) -> LoggedStep:
    """The step, in which the examples that modules return stay on the devices that hold them.

    XLA can multiply examples by a split kernel in two ways: gather the kernel, or move the
    examples. A constraint on the outputs of modules makes it gather the kernel. Which outputs are
    examples is found by tracing the step with twice the batch: their first axis is twice as long.
    An array whose first axis only happens to equal the batch, such as a table, is left alone.

    Args:
        step: A step that applies a Linen module to the batch.
        rows: The sharding of the batch.
        part: Examples that the module is applied to at a time.
    """

    def keeping(state: TrainState, metrics: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        longer: set[_Output] = set()  # outputs that grow with the batch
        constant: set[_Output] = set()  # outputs with `part` rows whatever the batch

        def record(output: _Output, x: Shaped[jax.Array, "n ..."]) -> None:
            if x.shape[0] == 2 * part:
                longer.add(output)
            if x.shape[0] == part:
                constant.add(output)

        def keep(output: _Output, x: Shaped[jax.Array, "n ..."]) -> Shaped[jax.Array, "n ..."]:
            if x.shape[0] != part or output not in longer - constant:
                return x
            return jax.lax.with_sharding_constraint(x, rows)

        doubled = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((2 * x.shape[0], *x.shape[1:]), x.dtype), batch
        )
        with nn.intercept_methods(partial(_for_each_output, record)):
            # As a new function: JAX does not trace a function twice for the same shapes.
            jax.eval_shape(lambda *args: step(*args), state, metrics, doubled)
        with nn.intercept_methods(partial(_for_each_output, keep)):
            return step(state, metrics, batch)

    return keeping


_Output = tuple[tuple[str, ...], str, int]  # path of a module, its method, number of the array


def _for_each_output(
    action: Callable[[_Output, Shaped[jax.Array, "n ..."]], Shaped[jax.Array, "n ..."] | None],
    run: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    context: nn.module.InterceptorContext,
) -> Any:
    """Calls a module's method, and replaces each array it returns by `action`'s, unless None."""
    returned = run(*args, **kwargs)
    if context.module.scope is None:
        return returned
    leaves, tree = jax.tree.flatten(returned)
    for i, x in enumerate(leaves):
        if isinstance(x, jax.Array) and x.ndim:
            changed = action((context.module.scope.path, context.method_name, i), x)
            leaves[i] = x if changed is None else changed
    return jax.tree.unflatten(tree, leaves)


class Parallel:
    """The mesh of a run, and where on it each array belongs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        check_divides(config.batch_size, jax.device_count(), config.accumulate)
        self.mesh = make_mesh(config)
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.replicas = self.mesh if config.parallel == "pmap" else None

    def put(self, batch: dict[str, Shaped[np.ndarray, "..."]]) -> dict[str, Any]:
        """This host's rows of a batch, as global arrays split over the devices."""
        return put_batch(batch, self.mesh)

    def place(self, tree: PyTree) -> PyTree:
        """Global arrays from arrays that every host holds in full, split as a state's are."""
        return place(tree, shard(self.mesh, tree))

    def replicate(self, tree: PyTree) -> PyTree:
        """The same arrays on every device."""
        return place(tree, self.replicated)

    def init(self, init: Callable[[Batch], TrainState], batch: Batch) -> TrainState:
        """The first state, computed on the devices that will hold it."""
        self.shardings = shard(self.mesh, jax.eval_shape(init, batch))
        return jax.jit(init, out_shardings=self.shardings)(batch)

    def compile(self, step: LoggedStep) -> LoggedStep:
        """The step as one program: the batch is split, the state stays where it is."""
        rows = batch_sharding(self.mesh)
        if self.config.parallel == "fsdp":
            step = keep_rows(step, rows, self.config.batch_size // self.config.accumulate)
        return jax.jit(
            step,
            donate_argnums=0,
            in_shardings=(self.shardings, self.replicated, rows),
            out_shardings=(self.shardings, self.replicated),
        )
