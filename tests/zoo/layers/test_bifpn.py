import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers.bifpn import BiFPN, BiFPNNode


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_maps_of_odd_sizes_keep_them(padding):
    """Coarser levels have half the rows and columns, rounded up."""
    maps = (jnp.ones((1, 7, 10, 4)), jnp.ones((1, 4, 5, 6)))
    module = BiFPN(8, num_cells=1, num_extra=2, padding=padding, norm="group")
    found, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), maps)
    assert [x.shape for x in found] == [(1, 7, 10, 8), (1, 4, 5, 8), (1, 2, 3, 8), (1, 1, 2, 8)]
    params = variables["params"]
    assert {name for name in params if "extra" in name} == {"extra_conv_0", "extra_norm_0"}
    nodes = [params[f"cell_0_node_{i}"] for i in range(6)]
    # Three maps on the way back, except at the coarsest level, which has no sum of before.
    assert [len(node["weights"]) for node in nodes] == [2, 2, 2, 3, 3, 2]


def test_a_node_weighs_its_maps_by_hand():
    """Negative weights count as 0; the weights are divided by their sum and 1e-4."""
    fine, other = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 8))
    coarse = other[:, :2, :2]
    maps = {0: fine, 1: coarse, 2: other}
    node = BiFPNNode(8, norm="group")
    init = jax.jit(node.init, static_argnums=2)
    params = init(jax.random.key(1), maps, (4, 4))["params"]
    params.pop("weights")
    weights = jnp.array([0.5, 1.5, -3.0])
    apply = jax.jit(node.apply, static_argnums=2)
    found = apply({"params": {**params, "weights": weights}}, maps, (4, 4))
    enlarged = np.asarray(coarse).repeat(2, axis=1).repeat(2, axis=2)
    mixed = (0.5 * np.asarray(fine) + 1.5 * enlarged) / 2.0001
    plain = BiFPNNode(8, weighted=False, norm="group")
    expected = plain.apply({"params": params}, {0: jnp.asarray(mixed)}, (4, 4))
    np.testing.assert_allclose(found, expected, atol=1e-5)
