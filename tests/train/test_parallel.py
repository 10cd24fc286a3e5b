import math

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec
from rich.console import Console

from tests.train.modes import RUNS, config_of, finish, start
from train.config import ConfigError
from train.log import read_metrics
from train.loop import train
from train.model import build, complete
from train.optim import make_optimizer
from train.parallel import check_divides, keep_rows, make_mesh, shard
from train.step import make_init
from zoo.data import train_batches

MODES = ("data", "fsdp", "pmap")
FAST = ("resnet",)  # it has batch statistics


def test_a_batch_that_does_not_divide_names_those_that_do():
    check_divides(96, devices=8, accumulate=2)
    with pytest.raises(ConfigError, match=r"batch_size=100 .* 16 shares .*; take 96 or 112$"):
        check_divides(100, devices=8, accumulate=2)
    with pytest.raises(ConfigError, match=r"take 8$"):
        check_divides(7, devices=8, accumulate=1)


def test_a_mesh_is_made_of_all_devices(tiny):
    assert dict(make_mesh(tiny("--parallel=fsdp")).shape) == {"data": 1, "fsdp": 1}
    with pytest.raises(ConfigError, match=r"mesh.data=8 times mesh.fsdp=4 .* devices, 1$"):
        make_mesh(tiny("--parallel=fsdp", "--mesh.data=8", "--mesh.fsdp=4"))
    with pytest.raises(ConfigError, match="needs --parallel=fsdp"):
        make_mesh(tiny("--mesh.fsdp=2"))
    with pytest.raises(ConfigError, match="must be at least 1"):
        tiny("--mesh.fsdp=0")


def test_the_largest_axis_that_divides_is_cut():
    mesh = AbstractMesh((2, 4), ("data", "fsdp"))
    shapes = {"kernel": (6, 8, 12), "first": (8, 8), "odd": (3, 5), "scalar": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    assert {name: s.spec for name, s in shard(mesh, tree).items()} == {
        "kernel": PartitionSpec(None, None, "fsdp"),
        "first": PartitionSpec("fsdp", None),
        "odd": PartitionSpec(),
        "scalar": PartitionSpec(),
    }


class _Table(nn.Module):
    @nn.compact
    def __call__(self, rows):
        return self.param("table", nn.initializers.zeros, (rows, 3))


class _WithTable(nn.Module):
    """A model with a table of 4 rows, which it returns in addition to its outputs."""

    @nn.compact
    def __call__(self, x):
        table = _Table(name="table")(4)
        return nn.Dense(3, name="dense")(x) + table.sum(axis=0), table


def test_fsdp_constrains_examples_and_no_table_of_as_many_rows():
    model = _WithTable()
    params = model.init(jax.random.key(0), np.zeros((1, 2), np.float32))

    def step(state, metrics, batch):
        outputs, table = model.apply(state, batch["x"])
        return state, outputs.mean() + table.mean()

    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    kept = keep_rows(step, NamedSharding(mesh, PartitionSpec("data")), part=4)
    jaxpr = jax.make_jaxpr(kept)(params, 0.0, {"x": np.zeros((4, 2), np.float32)})
    constrained = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "sharding_constraint"]
    assert len(constrained) == 2  # outputs of the dense layer and of the model
    assert all(eqn.invars[0].aval.shape == (4, 3) for eqn in constrained)
    table = jaxpr.jaxpr.invars[2]  # after the dense layer's bias and kernel
    assert table.aval.shape == (4, 3)
    assert table not in [eqn.invars[0] for eqn in constrained]


@pytest.mark.parametrize("scanned", ["false", "true"])
def test_eight_devices_hold_an_eighth_of_the_state_each(tiny, scanned):
    config = tiny("--ema=0.9", "--model.hidden_dim=64", f"--model.scan_layers={scanned}")
    examples = config.task.open(config.data, "train")
    config = complete(config, examples)
    batch = next(train_batches(examples, config.batch_size, seed=0))
    model, variables = build(config, batch)
    optimizer = make_optimizer(config.optim, config.steps, variables["params"])
    state = jax.eval_shape(make_init(config, model, optimizer), batch)
    shardings = shard(AbstractMesh((1, 8), ("data", "fsdp")), state)

    def size(state):
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))

    parts = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(s.shard_shape(x.shape), x.dtype), state, shardings
    )
    assert size(parts) <= size(state) / 8 * 1.05


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in RUNS]
)
def test_every_mode_on_eight_devices_gives_the_losses_of_one(name, tmp_path):
    process = start("tests.train.modes", tmp_path, name, *MODES, devices=8)
    train(config_of(name), tmp_path / "one", Console(quiet=True))
    finish(process)
    one = read_metrics(tmp_path / "one" / "metrics.jsonl")
    for mode in MODES:
        eight = read_metrics(tmp_path / mode / "metrics.jsonl")
        assert len(one) == len(eight) == 20
        for a, b in zip(one, eight, strict=True):
            assert a.keys() == b.keys()
            # Devices add in a different order, so the last digits of float32 differ.
            np.testing.assert_allclose(b["train/loss"], a["train/loss"], rtol=1e-5)
        # Scores differ too: a few of the 6,144 pixels may change class, but not a whole image.
        figure = f"eval/{config_of(name).task.best}"
        np.testing.assert_allclose(eight[-1][figure], one[-1][figure], atol=1e-3)
