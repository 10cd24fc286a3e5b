import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.edge_aggregation import aggregate_edges


def walked(line, weight):
    """The definition, for one line of values: a walk from each value, as long as they fall."""
    found = line.astype(float)
    for i in range(len(line)):
        for step in (-1, 1):
            place = i
            while 0 <= place + step < len(line) and line[place + step] <= line[place]:
                place += step
                found[i] += weight * line[place]
    return found


@pytest.mark.parametrize(("along", "axis"), [("rows", 1), ("columns", 2)])
def test_equals_the_definition(along, axis):
    """Values of a few levels, so that there are runs of equal ones."""
    heat = np.random.default_rng(0).integers(0, 5, (2, 9, 12, 3)).astype(np.float32)
    found = jax.jit(aggregate_edges, static_argnums=(1, 2))(jnp.asarray(heat), along, 0.1)
    expected = np.apply_along_axis(walked, axis, heat, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (expected > heat).any()
