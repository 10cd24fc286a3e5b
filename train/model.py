"""The model that a run trains: its settings, its shapes and its initial variables."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import jax
from etils import epath
from flax import linen as nn
from rich.console import Console

import zoo
from train.config import Config, ConfigError, model_field_names
from train.tasks import Batch
from train.workdir import read_config
from zoo.data import Dataset, DetectionData
from zoo.data.object_sources import DetectionSource
from zoo.data.own import fill_in, left_to_the_model
from zoo.loading import implied_fields
from zoo.registry import family_named, family_of
from zoo.weights.files import open_checkpoint
from zoo.weights.hub import fetch
from zoo.weights.run import complete_steps, fields_from_json
from zoo.weights.tree import abstract_leaves, flatten, unflatten


def with_preprocessing(config: Config, workdir: epath.Path | None = None) -> Config:
    """Fills in the settings of the data that the model decides, such as ``data.mean``.

    If `workdir` holds checkpoints, the values are those of its ``config.json``, because the file of
    ``init`` may not exist any more. Otherwise they come from the checkpoint of ``init``, and
    without ``init`` from the preprocessing that belongs to the model's name.

    Raises:
        ConfigError: If the model refuses its fields.
        InputError: If the checkpoint cannot be read.
    """
    data = config.data
    if not (names := left_to_the_model(data)):
        return config
    if workdir is not None and complete_steps(workdir / "checkpoints"):
        there = read_config(workdir)["data"]
        found = fields_from_json({name: there[name] for name in names if name in there})
        data = dataclasses.replace(data, **found)
    if not left_to_the_model(data):
        return dataclasses.replace(config, data=data)
    if config.init is None:
        how = zoo.preprocessing(config.model.name)
    else:
        try:
            model = zoo.create(config.model.name, **config.model.fields)
        except TypeError as error:
            raise ConfigError(str(error)) from error
        how = zoo.preprocessing(config.init, model=model)
    return dataclasses.replace(config, data=fill_in(data, how))


def with_implied_fields(config: Config, workdir: epath.Path | None = None) -> Config:
    """Fills in the fields of the model that the checkpoint of ``init`` implies.

    Such fields, like the epsilon of norms, are not in another program's file, but its parameters
    were trained with their values. Fields that are given stay. If `workdir` holds checkpoints, the
    values are those of its ``config.json``, because the file of ``init`` may not exist any more.

    Raises:
        InputError: If the checkpoint cannot be read.
    """
    if config.init is None:
        return config
    if workdir is not None and complete_steps(workdir / "checkpoints"):
        there = read_config(workdir)["model"]
        names = there.get("implied", ())
        found = fields_from_json({name: there["fields"][name] for name in names})
    else:
        found = implied_fields(_create(config), config.init)
    found = {name: value for name, value in found.items() if name not in config.model.fields}
    fields = {**config.model.fields, **found}
    model = dataclasses.replace(config.model, fields=fields, implied=tuple(found))
    return dataclasses.replace(config, model=model)


def complete(config: Config, examples: Dataset) -> Config:
    """Fills in the fields of the model that the data decide, such as ``num_classes``.

    Raises:
        ConfigError: If such a field was set to a value that differs from the data's, the model
            refuses its fields, or an image has more objects than the model has queries.
    """
    name, fields = config.model.name, config.model.fields
    known = model_field_names(name)
    decided = config.task.model_fields(config.data, examples)
    decided = {field: value for field, value in decided.items() if field in known}
    for field, value in decided.items():
        if fields.get(field, value) != value:
            raise ConfigError(f"model.{field} is {fields[field]}, but the data have {value}")
    model = dataclasses.replace(config.model, fields={**decided, **fields})
    completed = dataclasses.replace(config, model=model)
    _check_queries(completed, examples)
    return completed


def _check_queries(config: Config, examples: Dataset) -> None:
    """Raises ConfigError if an image can have more targets than a detector has queries for them."""
    queries = getattr(_create(config), "num_queries", None)
    if queries is None or not isinstance(config.data, DetectionData):
        return
    counts = cast(DetectionSource, examples.source).target_counts
    most = min(int(counts.max(initial=0)), config.data.max_objects)
    if most > queries:
        raise ConfigError(
            f"an image of {config.data.source} has {most} objects, but {config.model.name} has only"
            f" {queries} queries: set --model.num_queries={most}, or --data.max_objects={queries}"
            " --data.too_many=drop_smallest"
        )


def _create(config: Config) -> Any:
    """The model; raises ConfigError if it refuses its fields."""
    try:
        return zoo.create(config.model.name, **config.model.fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.model.name}: {str(error).splitlines()[0]}") from error


def build(config: Config, batch: Batch) -> tuple[nn.Module, Any]:
    """The model of a completed configuration, and the shapes of its variables.

    Raises:
        ConfigError: If the model refuses its fields, or a batch of these shapes.
    """
    model = _create(config)
    try:
        init = partial(config.task.init, model)
        return model, jax.eval_shape(init, jax.random.key(0), batch)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.model.name}: {str(error).splitlines()[0]}") from error


def initial_variables(config: Config, model: Any, console: Console) -> dict[str, Any] | None:
    """The variables of ``init``, or of ``init_backbone`` for the backbone only; else None.

    Raises:
        InputError: If the checkpoint cannot be read, or does not fit the model.
    """
    if config.init is not None:
        name, fields = config.model.name, config.model.fields
        _, variables, report = zoo.load_with_report(name, config.init, **fields)
        console.print(str(report), soft_wrap=True)
        return dict(variables)
    if config.init_backbone is None:
        return None
    if not hasattr(model, "backbone"):
        raise ConfigError(f"init_backbone: {config.model.name} has no separate backbone; use init")
    if (stored := open_checkpoint(fetch(config.init_backbone)).description) is not None:
        if "backbone" in family_named(stored.name).field_names():
            return _taken_over(model, config.init_backbone)
    fields = {**model.backbone_fields, "num_classes": 0}
    _, variables, report = zoo.load_with_report(model.backbone, config.init_backbone, **fields)
    console.print(str(report), soft_wrap=True)
    return _placed(model, variables, console)


def _placed(model: Any, variables: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """A backbone's variables where the model has them: see `FasterRCNN.backbone_paths`.

    Those of layers after the last map, which the model does not have, are named and left out.
    """
    places = getattr(model, "backbone_paths", ("body",))
    wanted = abstract_leaves(model, family_of(model).example(model))
    found, unused = {}, set()
    for path, leaf in flatten(variables).items():
        collection, _, rest = path.partition("/")
        paths = [f"{collection}/{place}/{rest}" for place in places]
        there = next((path for path in paths if path in wanted), None)
        if there is None:
            unused.add(rest.partition("/")[0])
        else:
            found[there] = leaf
    if unused:
        console.print(f"init_backbone: not in the model: {', '.join(sorted(unused))}")
    return unflatten(found)


def _taken_over(model: Any, path: str) -> dict[str, Any]:
    """The variables of the backbone of another model, from its run or file.

    Raises:
        ConfigError: If they are not those of the model's own backbone.
    """
    other, variables = zoo.load(path)
    found = {name: tree["body"] for name, tree in variables.items() if "body" in tree}
    body = model.make_body()
    init = partial(body.init, method="feature_maps")
    wanted = jax.eval_shape(init, jax.random.key(0), *family_of(body).example(body))
    theirs, ours = (
        {path: x.shape for path, x in flatten(tree).items()} for tree in (found, wanted)
    )
    if theirs != ours:
        differing = [path for path in {**ours, **theirs} if theirs.get(path) != ours.get(path)]
        raise ConfigError(
            f"init_backbone: the backbone of the {type(other).__name__} in {path} differs from this"
            f" {type(model).__name__}'s in {len(differing)} arrays, such as {differing[0]}"
        )
    return {collection: {"body": tree} for collection, tree in found.items()}
