import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers.hourglass import Hourglass, StackedHourglass
from zoo.ops.resample import enlarge_nearest, resize_nearest

SIZES = {"dims": (4, 6, 8), "num_blocks": (1, 1, 1), "out_dim": 5}


def test_the_defaults_are_104_layers_deep():
    """Convolutions on the longest way through the network, as the authors count them."""
    trunk = StackedHourglass()
    levels = trunk.num_blocks[:-1]
    way = sum(4 * count for count in levels) + 2 * trunk.num_blocks[-1]
    assert (trunk.num_stacks, way, trunk.coarsest_stride) == (2, 48, 128)
    # The stem has 3, each hourglass is followed by 1 and, between the two, by 1 and 2.
    assert 3 + 2 * (way + 1) + 3 == 104


@pytest.mark.parametrize(("stride", "size"), [(4, (63, 48)), (2, (32, 21))])
def test_there_is_a_map_after_each_hourglass(stride, size):
    trunk = StackedHourglass(**SIZES, stride=stride, num_stacks=3)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    maps, _ = jax.eval_shape(trunk.init_with_output, jax.random.key(0), images)
    shape = tuple(-(-side // stride) for side in size)
    assert [x.shape for x in maps] == [(2, *shape, 5)] * 3


def test_coarse_levels_see_far():
    """A pixel changes the other end of the map only if there are coarse levels."""
    x = jnp.zeros((1, 32, 4, 4))
    for dims, reaches in (((4, 4, 4, 4), True), ((4,), False)):
        glass = Hourglass(dims, (1,) * len(dims))
        variables = jax.jit(glass.init)(jax.random.key(0), x)
        apply = jax.jit(glass.apply)
        change = apply(variables, x.at[0, 2].set(9.0)) - apply(variables, x)
        assert bool((jnp.abs(change[0, 20:]) > 0).any()) == reaches


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="as many num_blocks"):
        StackedHourglass(dims=(4, 4))
    with pytest.raises(ValueError, match="num_stacks 0"):
        StackedHourglass(num_stacks=0)


@pytest.mark.parametrize("size", [(6, 10), (5, 9), (7, 4)])
def test_enlarging_repeats_values(size):
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    np.testing.assert_array_equal(enlarge_nearest(x, size), resize_nearest(x, size))
