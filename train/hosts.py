"""Several processes that train together: how they find each other, and how they stop together."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils

from train.config import ConfigError, DistributedConfig
from zoo.data.devices import gather

HEARTBEAT_TIMEOUT_SECONDS = 30
"""After so long without a sign of life from one process the others end."""

# What srun, mpirun, an indexed Job of Kubernetes and JAX's own convention put in the environment.
_OF_CLUSTERS = (
    "SLURM_STEP_NODELIST",
    "OMPI_MCA_orte_hnp_uri",
    "JOB_COMPLETION_INDEX",
    "JAX_COORDINATOR_ADDRESS",
)


def join(config: DistributedConfig) -> None:
    """Joins the other processes, if there are any; before anything else is asked of JAX.

    Where the settings do not say who they are, JAX finds them from the environment: TPU pods on GCE
    and GKE, SLURM, Open MPI, Kubernetes. A process of its own stays alone.

    Raises:
        ConfigError: If the others cannot be found, or do not come.
    """
    asked = (config.coordinator, config.processes, config.process)
    on_tpu = importlib.util.find_spec("libtpu") is not None
    in_cluster = on_tpu or any(name in os.environ for name in _OF_CLUSTERS)
    if asked == (None, None, None) and not in_cluster:
        return
    try:
        jax.distributed.initialize(
            *asked,
            cluster_detection_method=None if None in asked else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        if on_tpu and asked == (None, None, None):
            return  # a single machine
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the processes of this run do not find each other ({reason}); give each of them"
            " --distributed.coordinator=HOST:PORT --distributed.processes=N --distributed.process=I"
        ) from error


def leave(code: int) -> int:
    """The exit code of a process that fails alone; among several it ends here and now.

    An orderly end would wait for the others, and they for this one.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


@contextmanager
def caught_signals() -> Iterator[Callable[[int], signal.Signals | None]]:
    """A function of the step just taken: the signal that the run is to stop for after it, if any.

    One process stops for SIGTERM and SIGINT; a second one ends it as ever. Of several processes any
    may get them, as preemption notices do; JAX chooses a step, the same for all of them, and they
    agree on the signal: SIGINT, if any of them got it.
    """
    received: list[signal.Signals] = []
    several = jax.process_count() > 1

    def receive(number: int, _: Any) -> None:
        if received:
            signal.signal(number, old[signal.Signals(number)])
            signal.raise_signal(number)
        received.append(signal.Signals(number))
        if several:  # JAX passes on a SIGTERM, which it catches itself
            os.kill(os.getpid(), signal.SIGTERM)

    def stops(step: int) -> signal.Signals | None:
        if not several:
            return received[0] if received else None
        if not multihost_utils.reached_preemption_sync_point(step):
            return None
        interrupted = signal.SIGINT in gather(received[0] if received else None)
        return signal.SIGINT if interrupted else signal.SIGTERM

    caught = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
    old = {number: signal.signal(number, receive) for number in caught}
    try:
        yield stops
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
