"""Moves a host's numpy batches to arrays over all devices of all hosts, and results back."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Shaped

T = TypeVar("T")


def data_mesh() -> Mesh:
    """A mesh of all devices of all hosts along one axis, ``data``."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis equally over all devices of the mesh, whatever its axes are."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def put_batch(batch: dict[str, Shaped[np.ndarray, "b ..."]], mesh: Mesh) -> dict[str, Any]:
    """This host's rows of a batch as global arrays whose leading axis is split over the mesh."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def place(tree: Any, shardings: Any) -> Any:
    """Global arrays from arrays that every host holds in full.

    The arrays share no memory with those of `tree`.

    Args:
        tree: The same arrays on every host.
        shardings: How to split them: one sharding for all, or a tree with one for each.
    """
    if isinstance(shardings, Sharding):
        shardings = jax.tree.map(lambda _, sharding=shardings: sharding, tree)

    def put(x: Any, sharding: Sharding) -> Shaped[jax.Array, "..."]:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index].copy())

    return jax.tree.map(put, tree, shardings)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays that every host holds in full to every device."""
    return place(tree, NamedSharding(mesh, PartitionSpec()))


def this_process() -> dict[str, int]:
    """The arguments of `train_batches` and `eval_batches` that give a host its own rows."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def _same(x: T) -> T:
    return x


def fetch_rows(tree: Any) -> Any:
    """This host's rows, as numpy, of arrays over a global batch: the rows that `put_batch` got."""
    if jax.process_count() == 1:
        return jax.device_get(tree)

    def rows(x: Any) -> Shaped[np.ndarray, "b ..."]:
        split = jax.jit(_same, out_shardings=batch_sharding(x.sharding.mesh))(x)
        shards = {shard.index[0].start or 0: shard.data for shard in split.addressable_shards}
        return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

    return jax.tree.map(rows, tree)


def fetch_whole(tree: Any) -> Any:
    """Global arrays as numpy, in full on every host."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def gather(value: T) -> list[T]:
    """A list of the values of all hosts, in order of process; all hosts must call it together.

    The value can be anything that can be pickled, such as a host's figures, or an error.
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
    """Calls `action` on every host; if it raises `error` on one of them, all of them raise.

    Without this, the other hosts would wait forever for the one that stopped.

    Args:
        action: What to call on this host; its result is returned.
        error: The class of the errors that every host raises.
    """
    try:
        result, reason = action(), None
    except error as caught:
        result, reason = cast(T, None), caught
    for found in gather(reason):
        if found is not None:
            raise reason or found
    return result
