"""From a host's numpy batches to arrays over all devices of all hosts, and results back."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

T = TypeVar("T")


def data_mesh() -> Mesh:
    """All devices of all hosts along one axis, ``data``."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis in equal parts over every device of the mesh, whatever its axes."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """This host's rows of a batch as global arrays whose leading axis is split over the mesh."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def place(tree: Any, shardings: Any) -> Any:
    """Global arrays of what every host holds in full, as `shardings`, one or a tree of them, say.

    The arrays share no memory with those of `tree`.
    """
    if isinstance(shardings, Sharding):
        shardings = jax.tree.map(lambda _, sharding=shardings: sharding, tree)

    def put(x: Any, sharding: Sharding) -> jax.Array:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index].copy())

    return jax.tree.map(put, tree, shardings)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The same arrays on every device; every host holds them in full."""
    return place(tree, NamedSharding(mesh, PartitionSpec()))


def this_process() -> dict[str, int]:
    """The arguments of `train_batches` and `eval_batches` that give a host its own rows."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def _same(x: T) -> T:
    return x


def fetch_rows(tree: Any) -> Any:
    """This host's rows, as numpy, of arrays over a global batch: those that it put there."""
    if jax.process_count() == 1:
        return jax.device_get(tree)

    def rows(x: Any) -> np.ndarray:
        split = jax.jit(_same, out_shardings=batch_sharding(x.sharding.mesh))(x)
        shards = {shard.index[0].start or 0: shard.data for shard in split.addressable_shards}
        return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

    return jax.tree.map(rows, tree)


def fetch_whole(tree: Any) -> Any:
    """Global arrays as numpy, all of them on every host."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def gather(value: T) -> list[T]:
    """The values of all hosts, by process; every host must ask for it at the same point.

    Anything that pickles: each host's figures, or the reason why it cannot go on.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def everywhere(action: Callable[[], T], error: type[Exception]) -> T:
    """What `action` returns on this host, unless it raises `error` on any: then on all of them.

    A host that went on alone would wait for ever for those that stopped.
    """
    try:
        result, reason = action(), None
    except error as caught:
        result, reason = cast(T, None), caught
    for found in gather(reason):
        if found is not None:
            raise reason or found
    return result
