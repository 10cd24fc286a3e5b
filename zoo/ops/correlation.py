"""Normalised cross-correlation of images with templates.

What OpenCV's ``matchTemplate`` calls ``TM_CCOEFF_NORMED`` and ``TM_CCORR_NORMED``. OpenCV takes the
sums over windows from cumulative sums in float64. In float32, cumulative sums lose so many digits
in an image of a megapixel that windows of low contrast are wrong, and so does the difference of a
mean of squares and a squared mean. Here, the mean and the squared deviations of a window are joined
from those of its halves, so that only terms of one sign are added.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from zoo.types import InputError

_EPSILON = float(jnp.finfo(jnp.float32).eps)


class _Moments(NamedTuple):
    """The mean of each window, and the sum of its squared deviations from the mean."""

    mean: Float[Array, "b h w c"]
    deviations: Float[Array, "b h w c"]


def normalised_cross_correlation(
    images: Float[Array, "b h w c"] | UInt8[Array, "b h w c"],
    templates: Float[Array, "t p q c"] | UInt8[Array, "t p q c"],
    *,
    zero_mean: bool = True,
) -> Float[Array, "b rows columns t"]:
    """How well each template fits at each position inside the images, -1 to 1.

    With `zero_mean`, ``sum(I' T') / sqrt(sum(I'^2) sum(T'^2))``, where the mean of each channel of
    the template and of the window is subtracted (``TM_CCOEFF_NORMED``): brightness and contrast do
    not matter. Without, the same of the values themselves (``TM_CCORR_NORMED``). The sums are over
    all channels of the window. A window in which there is almost no variance gives 0, by OpenCV's
    rule: the sum of its squared deviations is at most the smaller of 0.5 and ``10 epsilon`` times
    its sum of squares. Unlike OpenCV, where it gives 1, a constant template gives 0 everywhere.

    >>> image = jnp.arange(12.0).reshape(1, 3, 4, 1) ** 2
    >>> template = 5 - 2 * image[:, 1:3, 1:3]  # darker and with more contrast
    >>> scores = normalised_cross_correlation(image, template)
    >>> scores.shape, round(float(scores[0, 1, 1, 0]), 5)
    ((1, 2, 3, 1), -1.0)

    Args:
        images: On any scale; OpenCV's rule is meant for 0..255 and 0..1.
        templates: Of one size, at most that of the images, on the same scale.
        zero_mean: Whether means are subtracted.

    Returns:
        The scores of windows whose top left pixel is (row, column), float32.

    Raises:
        InputError: If the templates are larger than the images.
    """
    (height, width), (p, q) = images.shape[1:3], templates.shape[1:3]
    if p > height or q > width:
        raise InputError(f"templates of {p} x {q} px do not fit into images of {height} x {width}")
    images, templates = images.astype(jnp.float32), templates.astype(jnp.float32)
    windows = _window_moments(images, p, q)
    energy = (windows.deviations + p * q * windows.mean**2).sum(axis=-1)
    flat = energy == 0
    if zero_mean:
        deviations = windows.deviations.sum(axis=-1)
        energy, flat = deviations, deviations <= jnp.minimum(0.5, 10 * _EPSILON * energy)
        templates = _centred(templates)
        # The templates' sum is 0, so any constant may be subtracted: this one loses fewer digits.
        images -= images.mean(axis=(1, 2), keepdims=True)
    products = jax.lax.conv_general_dilated(
        images,
        jnp.moveaxis(templates, 0, -1),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    scale = energy[..., None] * (templates**2).sum(axis=(1, 2, 3))
    usable = ~flat[..., None] & (scale > 0)
    scores = jnp.where(usable, products, 0) / jnp.sqrt(jnp.where(usable, scale, 1))
    return jnp.clip(scores, -1, 1)


def _centred(templates: Float[Array, "t p q c"]) -> Float[Array, "t p q c"]:
    """Subtracts the mean of each channel; the result is exactly 0 for a constant channel."""
    templates = templates - templates[:, :1, :1]  # so that the mean keeps more digits
    return templates - _window_moments(templates, *templates.shape[1:3]).mean


def _window_moments(images: Float[Array, "b h w c"], rows: int, columns: int) -> _Moments:
    """The moments of all windows of (rows, columns) pixels that lie inside the images."""
    pixels = _Moments(images, jnp.zeros_like(images))
    return _lengthen(_lengthen(pixels, 1, columns, axis=2), columns, rows, axis=1)


def _lengthen(moments: _Moments, pixels: int, length: int, axis: int) -> _Moments:
    """The moments of every `length` neighbouring windows together.

    Args:
        moments: Of the windows that start at each position along the axis.
        pixels: Number of pixels of each of them.
        length: Number of neighbours.
        axis: 1 for neighbours below each other, 2 for neighbours beside each other.
    """
    if length == 1:
        return moments
    half = length // 2
    joined = _lengthen(moments, pixels, half, axis)
    joined = _join(joined, joined, half * pixels, half * pixels, half, axis)
    if length % 2:
        joined = _join(joined, moments, 2 * half * pixels, pixels, 2 * half, axis)
    return joined


def _join(
    first: _Moments, second: _Moments, count: int, more: int, shift: int, axis: int
) -> _Moments:
    """The moments of windows of `count` and of `more` pixels together, the second shifted."""
    length = second.mean.shape[axis] - shift
    first, second = (
        _Moments(*(jax.lax.slice_in_dim(x, start, start + length, axis=axis) for x in moments))
        for moments, start in ((first, 0), (second, shift))
    )
    step, share = second.mean - first.mean, more / (count + more)
    return _Moments(
        first.mean + share * step,
        first.deviations + second.deviations + count * share * step**2,
    )
