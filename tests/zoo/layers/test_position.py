from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.layers import resize_positions, sincos_1d, sincos_2d, sine_2d

GOLDEN = Path(__file__).parents[2] / "golden" / "timm_positions.npz"


def test_sincos_1d_equals_the_papers_formula():
    length, dim = 50, 12
    expected = np.zeros((length, dim))
    for position in range(length):
        for i in range(dim // 2):
            angle = position / 10_000 ** (2 * i / dim)
            expected[position, 2 * i : 2 * i + 2] = np.sin(angle), np.cos(angle)
    np.testing.assert_allclose(sincos_1d(length, dim), expected, atol=1e-5)


@pytest.mark.parametrize("endpoint", [False, True])
def test_sincos_2d_equals_numpy(endpoint):
    rows, columns, quarter = 3, 5, 4
    omega = 1 / 10_000 ** (np.arange(quarter) / (quarter - endpoint))
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    x, y = x[..., None] * omega, y[..., None] * omega
    expected = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=-1)
    positions = sincos_2d(rows, columns, 16, endpoint=endpoint)
    np.testing.assert_allclose(positions, expected, atol=1e-6)


@settings(deadline=None, max_examples=12)  # each new shape is compiled
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_sincos_2d_are_distinct_and_of_one_norm(rows, columns, quarters):
    dim = 8 * quarters
    flat = np.asarray(sincos_2d(rows, columns, dim)).reshape(rows * columns, dim)
    np.testing.assert_allclose((flat**2).sum(-1), dim / 2, rtol=1e-4)
    assert len(np.unique(flat.round(5), axis=0)) == rows * columns


def test_features_that_do_not_divide():
    with pytest.raises(ValueError, match="not 7"):
        sincos_1d(4, 7)
    with pytest.raises(ValueError, match="not 6"):
        sincos_2d(4, 4, 6)


@pytest.mark.parametrize("case", ["up", "down", "mixed"])
def test_resize_equals_timm(case):
    with np.load(GOLDEN) as arrays:
        learned, expected = jnp.asarray(arrays["learned"]), arrays[case]
    np.testing.assert_allclose(resize_positions(learned, expected.shape[:2]), expected, atol=1e-5)


def test_resize_to_the_same_grid_is_exact():
    learned = np.random.default_rng(0).normal(size=(3, 4, 2))
    learned = jnp.float32(learned)
    np.testing.assert_array_equal(resize_positions(learned, (3, 4)), learned)


def test_sine_2d_equals_the_formula():
    valid = np.zeros((2, 4, 5), bool)
    valid[0, :3, :5], valid[1, :4, :2] = True, True
    dim = 8
    expected = np.zeros((2, 4, 5, dim))
    for b, (rows, columns) in enumerate([(3, 5), (4, 2)]):
        for r, c in np.ndindex(4, 5):
            for start, count, total in (
                (0, min(r + 1, rows) if c < columns else 0, rows if c < columns else 0),
                (dim // 2, min(c + 1, columns) if r < rows else 0, columns if r < rows else 0),
            ):
                for i in range(dim // 4):
                    share = count / (total + 1e-6)
                    angle = 2 * np.pi * share / 10_000 ** (2 * i / (dim // 2))
                    expected[b, r, c, start + 2 * i : start + 2 * i + 2] = (
                        np.sin(angle),
                        np.cos(angle),
                    )
    np.testing.assert_allclose(sine_2d(jnp.asarray(valid), dim), expected, atol=1e-5)


def test_sine_2d_of_an_image_do_not_depend_on_its_padding():
    small = sine_2d(jnp.ones((1, 3, 4), bool), 16)
    padded = sine_2d(jnp.zeros((1, 7, 9), bool).at[:, :3, :4].set(True), 16)
    np.testing.assert_allclose(padded[:, :3, :4], small, atol=1e-6)
    assert np.isfinite(sine_2d(jnp.zeros((1, 2, 2), bool), 16)).all()
    with pytest.raises(ValueError, match="multiple of 4 features, not 6"):
        sine_2d(jnp.ones((1, 2, 2), bool), 6)
