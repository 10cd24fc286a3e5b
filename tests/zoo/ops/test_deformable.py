"""Deformable convolution against its definition in numpy, one number after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers.deformable import DeformableConv
from zoo.ops.deformable import deformable_conv


def at(image, y, z):
    """The interpolated features of a place; pixels outside the image are zero."""
    total = np.zeros(image.shape[-1])
    for row in (np.floor(y), np.floor(y) + 1):
        for column in (np.floor(z), np.floor(z) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                share = (1 - abs(y - row)) * (1 - abs(z - column))
                total += share * image[int(row), int(column)]
    return total


def by_definition(x, offsets, masks, kernel):
    size, (b, h, w, _) = len(kernel), x.shape
    out = np.zeros((b, h, w, kernel.shape[-1]))
    for i, row, column, t in np.ndindex(b, h, w, size**2):
        y, z = divmod(t, size)
        dy, dz = offsets[i, row, column, t]
        seen = at(x[i], row + y - size // 2 + dy, column + z - size // 2 + dz)
        out[i, row, column] += masks[i, row, column, t] * seen @ kernel[y, z]
    return out


def drawn(size, h=5, w=6, c=3, d=4, b=2):
    """Offsets of up to the whole map, so that many places are outside."""
    rng = np.random.default_rng(size)
    return (
        rng.normal(size=(b, h, w, c)),
        rng.normal(0, 3, (b, h, w, size**2, 2)),
        rng.uniform(0, 1, (b, h, w, size**2)),
        rng.normal(size=(size, size, c, d)),
    )


@pytest.mark.parametrize("size", [1, 3])
def test_equals_the_definition(size):
    arguments = drawn(size)
    found = jax.jit(deformable_conv)(*(jnp.asarray(a, jnp.float32) for a in arguments))
    np.testing.assert_allclose(found, by_definition(*arguments), rtol=0, atol=2e-5)


def test_without_offsets_it_is_a_convolution():
    x, offsets, masks, kernel = (jnp.asarray(a, jnp.float32) for a in drawn(3))
    found = deformable_conv(x, 0 * offsets, 0 * masks + 1, kernel)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_gradients_are_the_slopes():
    """Of all four arguments, along a drawn direction; places are not near whole pixels."""
    arguments = list(drawn(3))
    whole = np.floor(arguments[1])
    arguments[1] = whole + np.clip(arguments[1] - whole, 0.2, 0.8)
    values = tuple(jnp.asarray(a, jnp.float32) for a in arguments)
    rng = np.random.default_rng(5)
    goal = rng.normal(size=(2, 5, 6, 4))
    directions = [rng.normal(size=a.shape) for a in arguments]

    def loss(*args):
        return (deformable_conv(*args) * jnp.asarray(goal, jnp.float32)).sum()

    slopes = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*values)
    for i, (slope, direction) in enumerate(zip(slopes, directions, strict=True)):
        step, ends = 1e-4, []
        for sign in (1, -1):
            moved = list(arguments)
            moved[i] = moved[i] + sign * step * direction
            ends.append((by_definition(*moved) * goal).sum())
        expected = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((np.asarray(slope) * direction).sum(), expected, rtol=1e-3)


def test_memory_does_not_grow_with_the_number_of_weights():
    """Also for the gradient: the values that all weights see would be 9 and 25 times a map."""
    step = jax.jit(jax.grad(lambda *a: (deformable_conv(*a) ** 2).sum(), argnums=(0, 1, 2, 3)))
    taken = []
    for size in (3, 5):
        shapes = (
            (1, 64, 64, 64),
            (1, 64, 64, size**2, 2),
            (1, 64, 64, size**2),
            (size, size, 64, 8),
        )
        types = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        memory = step.lower(*types).compile().memory_analysis()
        assert memory is not None
        taken.append(memory.temp_size_in_bytes)
    assert taken[1] < 1.25 * taken[0]


def test_the_number_of_offsets_must_fit():
    x, offsets, masks, kernel = (jnp.asarray(a, jnp.float32) for a in drawn(3))
    with pytest.raises(ValueError, match="4 offsets for a kernel of 3 x 3"):
        deformable_conv(x, offsets[..., :4, :], masks[..., :4], kernel)


def test_the_layer_starts_as_half_a_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 5))
    layer = DeformableConv(4)
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    found = jax.jit(layer.apply)(variables, x)
    expected = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(found, expected / 2, rtol=0, atol=1e-5)
