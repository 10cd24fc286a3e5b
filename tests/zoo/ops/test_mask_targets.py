import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.roi import align_one, draw_boxes, golden
from zoo.ops.mask_targets import mask_targets

TARGETS = jax.jit(mask_targets, static_argnames=("size", "aligned", "threshold"))


def draw(seed, rois=12):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(2, 3, 4, 5)) > 0
    bitmaps = coarse.repeat(6, axis=2).repeat(6, axis=3)  # 24 x 30
    boxes = np.stack([draw_boxes(rng, rois, 24, 30) for _ in range(2)])
    boxes += 0.013  # no sample is exactly a cell outside, where rounding decides
    return jnp.array(bitmaps), jnp.array(boxes), jnp.array(rng.integers(0, 3, (2, rois)))


def test_torchvisions():
    peer = golden("targets")
    found = TARGETS(
        peer["bitmaps"][None],
        peer["boxes"][None],
        peer["match"][None],
        size=14,
        aligned=False,
        threshold=None,
    )
    np.testing.assert_allclose(found[0], peer["targets"], atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_definition(aligned):
    bitmaps, boxes, match = draw(0)
    found = TARGETS(bitmaps, boxes, match, size=7, aligned=aligned, threshold=None)
    cut = TARGETS(bitmaps, boxes, match, size=7, aligned=aligned, threshold=0.5)
    for b in range(2):
        for r, m in enumerate(match[b].tolist()):
            bitmap = np.asarray(bitmaps[b, m, :, :, None], float)
            expected = align_one(bitmap, boxes[b, r], 1, 7, 0, aligned)[..., 0]
            np.testing.assert_allclose(found[b, r], expected, atol=1e-5)
            clear = abs(expected - 0.5) > 1e-5  # where rounding does not decide
            np.testing.assert_array_equal(cut[b, r][clear], expected[clear] >= 0.5)
    assert set(np.unique(cut)) == {0.0, 1.0}


def test_bitmaps_of_frames_give_those_of_the_image():
    """Each bitmap is half the image, in which it is alone; also at twice the resolution."""
    bitmaps, boxes, match = draw(1)
    outside = jnp.ones((24, 30), bool).at[6:18, 6:24].set(False)
    bitmaps = bitmaps & ~outside
    expected = TARGETS(bitmaps, boxes, match, size=7, threshold=None)
    frames = jnp.tile(jnp.array([3.0, 0, 27, 24]), (2, 3, 1))
    cut = TARGETS(bitmaps[..., 3:27], boxes, match, size=7, frames=frames, threshold=None)
    np.testing.assert_allclose(cut, expected, atol=1e-5)
    fine = bitmaps[..., 3:27].repeat(2, axis=2).repeat(2, axis=3)
    inside = jnp.array([[[2.0, 2, 26, 22], [9, 9, 21, 15]]] * 2)
    found = mask_targets(fine, inside, match[:, :2], size=2, frames=frames, threshold=None)
    whole = mask_targets(bitmaps, inside, match[:, :2], size=2, threshold=None)
    np.testing.assert_allclose(found, whole, atol=0.03)  # borders are sharper in finer bitmaps


def test_empty_frames_and_no_rows():
    bitmaps, boxes, match = draw(2)
    found = mask_targets(bitmaps, boxes, match, size=3, frames=jnp.zeros((2, 3, 4)))
    assert np.isfinite(found).all()
    assert mask_targets(bitmaps, boxes[:, :0], match[:, :0], size=3).shape == (2, 0, 3, 3)


def test_no_gradient():
    bitmaps, boxes, match = draw(3, rois=5)
    gradient = jax.grad(lambda x: mask_targets(bitmaps, x, match, size=3, threshold=None).sum())
    assert not gradient(boxes).any()
