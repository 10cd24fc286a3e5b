"""How a step is spread over devices: one jitted program over a mesh of global arrays."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from train.config import Config, ConfigError
from train.step import LoggedStep, TrainState
from train.tasks import Batch
from zoo.data.devices import data_mesh, put_batch, replicate


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


class Parallel:
    """The mesh of a run, and what goes where on it."""

    def __init__(self, config: Config) -> None:
        check_divides(config.batch_size, jax.device_count(), config.accumulate)
        self.mesh = data_mesh()
        self.replicated = NamedSharding(self.mesh, PartitionSpec())

    def put(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """This host's rows of a batch, as global arrays split over the devices."""
        return put_batch(batch, self.mesh)

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return replicate(tree, self.mesh)

    def init(self, init: Callable[[Batch], TrainState], batch: Batch) -> TrainState:
        """The first state, made where it is to be."""
        return jax.jit(init, out_shardings=self.replicated)(batch)

    def compile(self, step: LoggedStep) -> LoggedStep:
        """The step as one program: the batch is split, the state is the same everywhere."""
        return jax.jit(step, donate_argnums=0, out_shardings=self.replicated)
