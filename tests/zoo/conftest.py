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
    """A peer's tiny model: our module for it, its checkpoint, and what it computed."""

    name: str
    fields: dict
    model: nn.Module
    weights: dict[str, np.ndarray]
    images: jax.Array
    logits: np.ndarray
    tokens: np.ndarray | None
    outputs: dict[str, np.ndarray]
    valid: jax.Array | None = None

    @property
    def inputs(self) -> tuple:
        """What the model is called with."""
        return (self.images,) if self.valid is None else (self.images, self.valid)

    @property
    def checkpoint(self) -> Checkpoint:
        readers = {name: lambda x=x: x for name, x in self.weights.items()}
        return Checkpoint(Path("golden"), "npz", readers)

    @property
    def variables(self) -> dict:
        return load_variables(self.model, self.checkpoint)[0]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    def read(case: str) -> Golden:
        with np.load(GOLDEN / f"{case}.npz") as file:
            arrays = dict(file)
        config = json.loads(str(arrays.pop("config")))
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in config["fields"].items()}
        weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if "weights/" in k}
        outputs = {k: v for k, v in arrays.items() if "/" not in k and k not in ("images", "valid")}
        return Golden(
            config["name"],
            fields,
            zoo.create(config["name"], **fields),
            weights,
            jnp.asarray(arrays["images"]),
            arrays["logits"],
            arrays.get("tokens"),
            outputs,
            jnp.asarray(arrays["valid"]) if "valid" in arrays else None,
        )

    return read
