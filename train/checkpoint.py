"""Checkpoints of a run: asynchronous, atomic, the best one and the last few kept."""

import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from train.step import Metrics, TrainState
from zoo.types import InputError

SCORE = "score"
"""Name of the figure, larger is better, that an evaluated checkpoint carries."""


class Checkpointer:
    """Writes and reads ``DIR/checkpoints/STEP``.

    A step's folder has the items ``variables``, all that evaluation reads, averaged if the run has
    averages; ``training``, the rest of the state; ``data``, the position of the data iterator; and
    ``metrics``, the score if the step was evaluated. A folder gets its name only when it is whole,
    so one that a killed process left half-written is ignored.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        def score_of(metrics: dict[str, float]) -> float:
            return metrics.get(SCORE, -math.inf)

        best = checkpoint_managers.BestN(get_metric_fn=score_of, n=1)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(keep), best]
        )
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=score_of,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
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
        """Starts writing, after the checkpoint before; returns when the arrays are copied."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.evaluated()),
                training=ocp.args.StandardSave(_training(state, metrics)),
                data=ocp.args.JsonSave(data_state),
            ),
            metrics={} if score is None else {SCORE: score},
            force=True,  # else Orbax leaves this one out while the one before is being written
        )

    def restore(
        self, state: TrainState, metrics: Metrics, step: int
    ) -> tuple[TrainState, Metrics, Any]:
        """What `save` was given at a step, with the shapes and shardings of the arguments.

        Raises:
            InputError: If the checkpoint is damaged, or of another model.
        """
        items = ocp.args.Composite(
            variables=ocp.args.StandardRestore(_abstract(state.evaluated())),
            training=ocp.args.StandardRestore(_abstract(_training(state, metrics))),
            data=ocp.args.JsonRestore(),
        )
        try:
            read: Any = self._manager.restore(step, args=items)
        except Exception as error:  # whatever Orbax and TensorStore raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self._manager.directory / str(step)}: the checkpoint cannot be read ({reason});"
                " remove this folder to go on from the checkpoint before"
            ) from error
        if state.ema is None:
            model_state = dict(read.variables)
            variables = {"params": model_state.pop("params"), "model_state": model_state}
        else:
            variables = {"ema": read.variables}
        state = state.replace(**variables, **read.training["state"])
        return state, Metrics(**read.training["metrics"]), read.data

    @property
    def latest(self) -> int | None:
        """The newest whole checkpoint's step; None if there is none."""
        return self._manager.latest_step()

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _training(state: TrainState, metrics: Metrics) -> dict[str, Any]:
    """What only a resumed run needs; the variables too, if those evaluated are averages."""
    training = {"step": state.step, "key": state.key, "opt_state": state.opt_state}
    if state.ema is not None:
        training["params"] = state.params
        if state.model_state:  # Orbax refuses an item that is empty
            training["model_state"] = state.model_state
    shown = {field: getattr(metrics, field) for field in ("means", "learning_rate", "bad_step")}
    return {"state": training, "metrics": shown}


def _abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings of the arrays of a tree."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
