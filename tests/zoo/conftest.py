import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import zoo
from zoo.weights import Checkpoint, load_variables

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclasses.dataclass
class Golden:
    """A tiny model of a peer: our module for it, its checkpoint, its inputs and its outputs.

    `tests/golden/make_golden.py` describes the file.
    """

    name: str
    fields: dict
    source: str
    inputs: tuple[jax.Array, ...]
    outputs: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    tolerance: float | None
    where: np.ndarray | None

    @property
    def model(self) -> nn.Module:
        return zoo.create(self.name, **self.fields)

    @property
    def images(self) -> jax.Array:
        return self.inputs[0]

    @property
    def logits(self) -> np.ndarray:
        return self.outputs["logits"]

    @property
    def tokens(self) -> np.ndarray:
        return self.outputs["tokens"]

    @property
    def checkpoint(self) -> Checkpoint:
        readers = {name: lambda x=x: x for name, x in self.weights.items()}
        return Checkpoint(Path("golden"), "npz", readers)

    @property
    def variables(self) -> dict:
        return load_variables(self.model, self.checkpoint)[0]


def models_goldens() -> list[str]:
    """The goldens of models: the files in `tests/golden` that contain the name of a model."""
    found = []
    for path in sorted(GOLDEN.glob("*.npz")):
        with np.load(path) as file:
            found += [path.stem] if "config" in file.files else []
    return found


def read_golden(case: str) -> Golden:
    """Reads the golden of a case from its file in `tests/golden`."""
    with np.load(GOLDEN / f"{case}.npz") as file:
        arrays = dict(file)
    config = json.loads(str(arrays.pop("config")))
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in config["fields"].items()}
    weights = {k: arrays.pop(k) for k in list(arrays) if k.startswith("weights/")}
    groups = {k: arrays.pop(k) for k in list(arrays) if "/" in k}
    inputs = [arrays.pop(name) for name in config["inputs"]]
    where = dict(zip(config["inputs"], inputs, strict=True)).get(config.get("where"))
    return Golden(
        name=config["name"],
        fields=fields,
        source=config["source"],
        inputs=tuple(map(jnp.asarray, inputs)),
        outputs=arrays,
        groups=groups,
        weights={k.removeprefix("weights/"): v for k, v in weights.items()},
        tolerance=config.get("tolerance"),
        where=where,
    )


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    return read_golden
