import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.ops.patches import grid_size, patchify, unpatchify

sizes = st.integers(1, 4)


@settings(deadline=None, max_examples=12)  # each new shape is compiled
@given(b=sizes, rows=sizes, columns=sizes, p=sizes, c=sizes)
def test_round_trip(b, rows, columns, p, c):
    shape = (b, rows * p, columns * p, c)
    images = jnp.arange(math.prod(shape)).reshape(shape)
    patches = patchify(images, p)
    assert patches.shape == (b, rows * columns, p * p * c)
    np.testing.assert_array_equal(unpatchify(patches, p, shape[1:3]), images)


@settings(deadline=None, max_examples=6)
@given(rows=sizes, columns=sizes, p=sizes)
def test_each_patch_is_a_window_of_the_image(rows, columns, p):
    images = jnp.arange(rows * p * columns * p * 3).reshape(1, rows * p, columns * p, 3)
    patches = patchify(images, p)
    for row in range(rows):
        for column in range(columns):
            window = images[0, row * p : (row + 1) * p, column * p : (column + 1) * p]
            np.testing.assert_array_equal(patches[0, row * columns + column], window.ravel())


def test_grid_size():
    assert grid_size(32, 4) == (8, 8)
    assert grid_size((16, 24), 8) == (2, 3)
    with pytest.raises(ValueError, match=r"15 x 24 px .* 8 x 8 px"):
        grid_size((15, 24), 8)
