"""How a step is spread over devices: one jitted program over a mesh of global arrays.

``data``: every device holds the state, and computes its rows of the batch. ``fsdp``: each array of
the state is cut along its largest axis that divides over the mesh's second axis, and gathered where
it is used (ZeRO, arXiv 1910.02054, stage 3). ``pmap``: the state is everywhere, and the gradients
are computed by one replica a device, which see each other only where a sum over the whole batch is
asked for; see `train.step`. The gradients, and so the losses, are those of the same global batch in
all three. What a task draws in `prepare` is the same in all of them, too; what the model draws,
dropout and the like, is in ``pmap`` drawn by each replica for itself, and so of other values.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.config import Config, ConfigError
from train.step import LoggedStep, Metrics, TrainState
from train.tasks import Batch
from zoo.data.devices import batch_sharding, place, put_batch


def check_divides(batch_size: int, devices: int, accumulate: int) -> None:
    """Raises ConfigError, naming the nearest sizes that do, if a batch has no equal shares."""
    shares = devices * accumulate
    if batch_size % shares:
        below = batch_size // shares * shares
        near = " or ".join(str(size) for size in (below, below + shares) if size)
        raise ConfigError(
            f"batch_size={batch_size} does not divide into {shares} shares ({devices} devices,"
            f" accumulate={accumulate}); take {near}"
        )


def make_mesh(config: Config) -> Mesh:
    """The devices of a run along the axes ``data`` and ``fsdp``.

    Raises:
        ConfigError: If the two lengths asked for do not make up all devices.
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


def shard(mesh: Mesh, tree: Any) -> Any:
    """For each array of a tree its largest axis that divides, the first of equals, over ``fsdp``.

    An array without such an axis is on every device.
    """
    parts = mesh.shape["fsdp"]

    def spec(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % parts == 0 and parts > 1]
        largest = max(axes, key=lambda axis: x.shape[axis], default=None)
        cut = ["fsdp" if axis == largest else None for axis in range(x.ndim)]
        return NamedSharding(mesh, PartitionSpec(*cut) if axes else PartitionSpec())

    return jax.tree.map(spec, tree)


class Parallel:
    """The mesh of a run, and what goes where on it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        check_divides(config.batch_size, jax.device_count(), config.accumulate)
        self.mesh = make_mesh(config)
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.replicas = self.mesh if config.parallel == "pmap" else None

    def put(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """This host's rows of a batch, as global arrays split over the devices."""
        return put_batch(batch, self.mesh)

    def place(self, tree: Any) -> Any:
        """Arrays that every host holds in full, where a state has them."""
        return place(tree, shard(self.mesh, tree))

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return place(tree, self.replicated)

    def init(self, init: Callable[[Batch], TrainState], batch: Batch) -> TrainState:
        """The first state, made where it is to be."""
        self.shardings = shard(self.mesh, jax.eval_shape(init, batch))
        return jax.jit(init, out_shardings=self.shardings)(batch)

    def compile(self, step: LoggedStep) -> LoggedStep:
        """The step as one program: the batch is split, the state stays where it is."""
        rows = batch_sharding(self.mesh)
        part = self.config.batch_size // self.config.accumulate

        def keep_rows(run: Callable, args: tuple, kwargs: dict, _: Any) -> Any:
            """Of the ways to multiply by a part of a kernel: gather it, leave examples alone."""

            def keep(x: Any) -> Any:
                is_rows = isinstance(x, jax.Array) and x.ndim and x.shape[0] == part
                return jax.lax.with_sharding_constraint(x, rows) if is_rows else x

            return jax.tree.map(keep, run(*args, **kwargs))

        def spread(state: TrainState, metrics: Metrics, batch: Batch) -> tuple:
            with nn.intercept_methods(keep_rows):
                return step(state, metrics, batch)

        return jax.jit(
            spread if self.config.parallel == "fsdp" else step,
            donate_argnums=0,
            in_shardings=(self.shardings, self.replicated, rows),
            out_shardings=(self.shardings, self.replicated),
        )
