"""Checkpoints of a run: asynchronous, atomic, checked; the best and the last few are kept."""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import UInt32
from orbax.checkpoint import checkpoint_managers

from train.step import Metrics, TrainState
from zoo.data.devices import everywhere
from zoo.types import InputError
from zoo.weights.checksums import (
    DamagedError,
    array_sums,
    check_arrays,
    check_files,
    describe,
    holds,
    write_manifest,
)
from zoo.weights.run import complete_steps

SCORE = "score"
"""Name of the figure by which evaluated checkpoints are compared; larger is better."""


class Checkpointer:
    """Writes and reads ``DIR/checkpoints/STEP``, a folder that all hosts see.

    A step's folder has the items ``variables``, all that an evaluation reads, which are moving
    averages if the run has them; ``training``, the rest of the state; ``data``, the position of the
    data iterator; and ``metrics``, the score if the step was evaluated; and beside them checksums
    of all of these. A folder is renamed to its final name only when it is complete, so a folder
    that a killed process left incomplete is ignored. A folder that was damaged later is moved to
    ``DIR/damaged``.
    """

    def __init__(self, directory: epath.Path, keep: int, warn: Callable[[str], None]) -> None:
        self._directory, self._keep, self._warn = epath.Path(directory.absolute()), keep, warn
        self._aside = self._directory.parent / "damaged"
        self._local = "://" not in str(directory)
        # The checkpoint that is being written: its step, the shapes of its arrays, their checksums.
        self._writing: tuple[int, Any, list[UInt32[jax.Array, " n"]]] | None = None
        everywhere(self._set_damaged_aside, InputError)
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        def score_of(metrics: dict[str, float]) -> float:
            return metrics.get(SCORE, -math.inf)

        best = checkpoint_managers.BestN(get_metric_fn=score_of, n=1)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(self._keep), best]
        )
        return ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=score_of,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
                # Despite its name, this runs before the final rename; only on the first host.
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
            ),
        )

    def save(
        self,
        state: TrainState,
        metrics: Metrics,
        data_state: Any,
        *,
        step: int,
        score: float | None = None,
    ) -> None:
        """Waits for the previous checkpoint and starts this one; returns when arrays are copied."""
        items = {"training": _training(state, metrics), "variables": state.evaluated()}
        self._manager.wait_until_finished()  # since its manifest uses self._writing
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), items)
        self._writing = step, shapes, [array_sums(item) for item in items.values()]
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(items["variables"]),
                training=ocp.args.StandardSave(items["training"]),
                data=ocp.args.JsonSave(data_state),
            ),
            metrics={} if score is None else {SCORE: score},
            force=True,  # else Orbax skips a step while the previous one is being written
        )

    def _write_manifest(self) -> None:
        """Adds the checksums to the checkpoint that is being written, after its other files."""
        assert self._writing is not None
        step, shapes, sums = self._writing
        (folder,) = (
            path
            for path in self._directory.iterdir()
            if path.name == str(step) or path.name.startswith(f"{step}.orbax-checkpoint-tmp")
        )
        # In the order of the tree's leaves, in which the items are sorted by name.
        arrays = describe(shapes, np.concatenate(jax.tree.leaves(jax.device_get(sums))))
        write_manifest(folder, arrays, with_files=self._local)

    def restore_latest(
        self, state: TrainState, metrics: Metrics
    ) -> tuple[TrainState, Metrics, Any, int] | None:
        """The arguments of the last `save`, and its step; None if nothing was saved.

        Arrays get the shapes and shardings of `state` and `metrics`. A damaged checkpoint is moved
        away, with a warning, and the previous one restored.

        Raises:
            InputError: If the checkpoint is of another model, or all checkpoints are damaged.
        """
        while (step := self.latest) is not None:
            try:
                read = everywhere(partial(self._restore, state, metrics, step), InputError)
                return *read, step
            except DamagedError as error:
                self._manager.close()
                everywhere(partial(self._set_aside, step, error), InputError)
                everywhere(self._check_left, InputError)
                self._manager = self._open()
        return None

    def _restore(
        self, state: TrainState, metrics: Metrics, step: int
    ) -> tuple[TrainState, Metrics, Any]:
        items = {"variables": state.evaluated(), "training": _training(state, metrics)}
        items = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), items
        )
        args = {name: ocp.args.StandardRestore(item) for name, item in items.items()}
        folder = self._directory / str(step)
        try:
            read: Any = self._manager.restore(
                step, args=ocp.args.Composite(**args, data=ocp.args.JsonRestore())
            )
        except Exception as error:  # for a damaged file Orbax and TensorStore raise many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if holds(folder, items):
                raise DamagedError(f"{folder} cannot be read ({reason})") from error
            raise InputError(
                f"{folder}: the checkpoint cannot be read ({reason});"
                " remove this folder to go on from the checkpoint before"
            ) from error
        check_arrays(folder, "variables", read.variables)
        check_arrays(folder, "training", read.training)
        if state.ema is None:
            model_state = dict(read.variables)
            variables = {"params": model_state.pop("params"), "model_state": model_state}
        else:
            variables = {"ema": read.variables}
        state = state.replace(**variables, **read.training["state"])
        return state, Metrics(**read.training["metrics"]), read.data

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def wait(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written, and closes Orbax's manager."""
        self.wait()
        self._manager.close()

    def _set_damaged_aside(self) -> None:
        """Moves damaged checkpoints away before Orbax reads any.

        So are folders that were copied only in part. All files of the newest checkpoint are
        checked, until a good one is found; of the older ones those with the scores, which Orbax
        reads.

        Raises:
            InputError: If the run has checkpoints and all of them are damaged.
        """
        if jax.process_index():
            return
        steps = self._steps()
        for step in set(steps) - set(complete_steps(self._directory)):
            self._set_aside(step, DamagedError(f"{self._directory / str(step)} is incomplete"))
            steps.remove(step)
        while steps:
            step = steps.pop()
            try:
                check_files(self._directory / str(step))
                break
            except DamagedError as error:
                self._set_aside(step, error)
        for step in steps:
            try:
                check_files(self._directory / str(step), _has_the_score)
            except DamagedError as error:
                self._set_aside(step, error)
        self._check_left()

    def _set_aside(self, step: int, error: Exception) -> None:
        """Moves a damaged checkpoint away, on the first host."""
        if jax.process_index():
            return
        self._aside.mkdir(exist_ok=True)
        taken = sum(path.name.partition("-")[0] == str(step) for path in self._aside.iterdir())
        aside = self._aside / (f"{step}-{taken}" if taken else str(step))
        (self._directory / str(step)).rename(aside)
        left = self._steps()
        goes_on = f"; going on from step {left[-1]}" if left else ""
        self._warn(f"{error}; moved to {aside}{goes_on}")

    def _check_left(self) -> None:
        """Raises InputError if all checkpoints are damaged: only the user may start again."""
        if jax.process_index() or not self._aside.exists() or self._steps():
            return
        if names := sorted(path.name for path in self._aside.iterdir()):
            raise InputError(
                f"no whole checkpoint is left: {self._aside} has the damaged ones"
                f" ({', '.join(names)}); bring one back as {self._directory / 'STEP'}, or, to begin"
                f" anew, remove {self._aside}"
            )

    def _steps(self) -> list[int]:
        """The steps of the checkpoints in the folder, ascending."""
        there = self._directory.exists()
        return sorted(ocp.utils.checkpoint_steps(self._directory)) if there else []


def remove_unfinished(directory: epath.Path) -> epath.Path | None:
    """Removes what Orbax could not finish in a folder; returns the newest checkpoint, if any."""
    if not directory.exists():
        return None
    for path in directory.iterdir():
        if ".orbax-checkpoint-tmp" in path.name:
            with suppress(OSError):
                path.rmtree()
    steps = complete_steps(directory)
    return directory / str(steps[-1]) if steps else None


def _has_the_score(file: str) -> bool:
    return file.startswith(("metrics/", "_CHECKPOINT_METADATA"))


def _training(state: TrainState, metrics: Metrics) -> dict[str, Any]:
    """What only resuming needs: also the current variables, if the evaluated ones are averages."""
    training = {"step": state.step, "key": state.key, "opt_state": state.opt_state}
    if state.ema is not None:
        training["params"] = state.params
        if state.model_state:  # Orbax refuses an item that is empty
            training["model_state"] = state.model_state
    shown = {field: getattr(metrics, field) for field in ("means", "learning_rate", "bad_step")}
    return {"state": training, "metrics": shown}
