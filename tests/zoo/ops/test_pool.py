import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from zoo.ops.pool import max_pool


@pytest.mark.parametrize("shape", [(12, 10), (11, 13)])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_equals_xlas_with_its_gradient(shape, size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, *shape, 5))

    def reference(x):
        return nn.max_pool(x, (size, size), (stride, stride), [(padding, padding)] * 2)

    np.testing.assert_array_equal(max_pool(x, size, stride, padding), reference(x))
    ours, theirs = (
        jax.grad(lambda x, pool=pool: jnp.sum(pool(x) ** 3))(x)
        for pool in (lambda x: max_pool(x, size, stride, padding), reference)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_padding_is_never_the_largest():
    assert (max_pool(jnp.full((1, 3, 3, 1), -5.0), 3, 2, 1) == -5).all()


@pytest.mark.parametrize("side", [11, 12])
def test_a_last_incomplete_window(side):
    x = jax.random.normal(jax.random.key(1), (2, side, 9, 3))
    expected = nn.max_pool(x, (2, 2), (2, 2), ((0, side % 2), (0, 1)))
    np.testing.assert_array_equal(max_pool(x, 2, 2, ceil=True), expected)
    assert max_pool(x, 2, 2).shape[1:3] == (side // 2, 4)
