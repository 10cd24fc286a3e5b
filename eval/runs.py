"""Opens a run of `train` for evaluation, from its folder alone."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import jax
import msgspec
import numpy as np
from flax import linen as nn
from jaxtyping import Shaped

import zoo
from zoo.data.devices import data_mesh, put_batch, replicate
from zoo.types import InputError
from zoo.weights.run import choose_step

Data = TypeVar("Data")
Put = Callable[[dict[str, Shaped[np.ndarray, "b ..."]]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Run(Generic[Data]):
    """A run that is open for evaluation.

    Attributes:
        model: The trained model.
        variables: Its variables after `step`, on every device.
        data: The run's data settings, with the changes of the command line.
        task: The fields of the run's task, as in its config.json.
        class_names: Name of each class of the model, by label.
        step: Step of the checkpoint.
        batch_size: Number of examples at a time; a multiple of the number of devices.
        put: Moves a batch to the devices.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    data: Data
    task: Mapping[str, Any]
    class_names: tuple[str, ...]
    step: int
    batch_size: int
    put: Put


def open_run(arguments: argparse.Namespace, data_type: type[Data]) -> Run[Data]:
    """Opens the run and the checkpoint that the options of `eval.command` name.

    Args:
        arguments: The parsed options of `eval.command.add_run_arguments`.
        data_type: The dataclass of the run's data settings.

    Raises:
        InputError: If an option is unusable, or the folder is no run with data of that type.
    """
    workdir = arguments.workdir
    if arguments.batch_size < 1:
        raise InputError(f"--batch_size is {arguments.batch_size}, but must be at least 1")
    step = choose_step(workdir, arguments.checkpoint)
    model, variables = zoo.load(workdir / "checkpoints" / str(step))
    run = json.loads((workdir / "config.json").read_text())
    changed = {
        "eval_split": arguments.split,
        "source": arguments.source,
        "data_dir": arguments.data_dir,
    }
    changed = {name: value for name, value in changed.items() if value is not None}
    try:
        known = {field.name for field in dataclasses.fields(cast(Any, data_type))}
        if foreign := sorted(set(run["data"]) - known):
            raise KeyError(f"its data have {foreign[0]!r}")
        data = msgspec.convert({**run["data"], **changed}, data_type)
        class_names, task = tuple(run["class_names"]), run["task"]
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        kind = data_type.__name__.removesuffix("Data").lower()
        raise InputError(f"{workdir}/config.json: not of a {kind} run: {error}") from error
    mesh, devices = data_mesh(), jax.device_count()
    return Run(
        model,
        replicate(variables, mesh),
        data,
        task,
        class_names,
        step,
        -(-arguments.batch_size // devices) * devices,
        lambda batch: put_batch(batch, mesh),
    )
