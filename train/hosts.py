"""Several processes that train together: how they connect, and how they stop together."""

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
"""If one process gives no heartbeat for this long, the others end."""

# Environment variables set by srun, by mpirun, by an indexed Job of Kubernetes, and for JAX itself.
_OF_CLUSTERS = (
    "SLURM_STEP_NODELIST",
    "OMPI_MCA_orte_hnp_uri",
    "JOB_COMPLETION_INDEX",
    "JAX_COORDINATOR_ADDRESS",
)


def join(config: DistributedConfig) -> None:
    """Connects to the other processes, if there are any; to be called before any use of JAX.

    Processes that are not in the settings are found by JAX from the environment: TPU pods on GCE
    and GKE, SLURM, Open MPI, Kubernetes. A single process stays alone.

    Raises:
        ConfigError: If the others cannot be found, or do not connect in time.
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
    """Returns the exit code of a failed process; if there are several processes, exits at once.

    A normal exit would wait for the other processes, which wait for this one.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


@contextmanager
def caught_signals() -> Iterator[Callable[[int], signal.Signals | None]]:
    """A function that is called after each step and returns the signal to stop for, or None.

    A single process stops after SIGTERM or SIGINT; a second signal ends it at once, as usual. If
    there are several processes, any of them may get a signal, such as a preemption notice. JAX then
    chooses the step after which all of them stop, and all return the same signal: SIGINT if any of
    them got it, else SIGTERM.
    """
    received: list[signal.Signals] = []
    several = jax.process_count() > 1

    def receive(number: int, _: Any) -> None:
        if received:
            signal.signal(number, old[signal.Signals(number)])
            signal.raise_signal(number)
        received.append(signal.Signals(number))
        if several:  # JAX catches SIGTERM and tells the other processes
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
