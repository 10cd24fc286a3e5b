import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.roi import align_one, draw_boxes, golden
from zoo.ops.roi_align import assign_levels, roi_align

STRIDES = (4.0, 8.0)
ALIGN = jax.jit(roi_align, static_argnames=("strides", "size", "sampling_ratio", "aligned"))
FORMS = [(False, 0), (False, 2), (False, 3), (True, 0), (True, 2), (True, 3)]


def draw(seed, channels=2, rois=40):
    """Maps of two images at two levels, boxes, and levels; one level is of no map."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(2, 22 // 2**i, 30 // 2**i, channels)) for i in range(2)]
    boxes = np.stack([draw_boxes(rng, rois, 88, 120) for _ in range(2)])
    boxes += 0.013  # no sample is exactly a cell outside, where rounding decides
    levels = rng.integers(-1, 2, (2, rois))
    return [jnp.asarray(x, jnp.float32) for x in maps], jnp.array(boxes), jnp.array(levels)


@pytest.mark.parametrize(("aligned", "ratio"), FORMS)
def test_values_and_gradients_are_torchvisions(aligned, ratio):
    peer = golden("align")
    settings = {"strides": (8.0,), "size": 4, "sampling_ratio": ratio, "aligned": aligned}

    @jax.jit
    def both(features, gradient):
        pooled, back = jax.vjp(lambda x: roi_align([x], peer["boxes"], **settings), features)
        return pooled, back(gradient)[0]

    pooled, back = both(peer["features"], peer["gradient"])
    # Features are around 1; places of samples differ by the rounding of float32.
    np.testing.assert_allclose(pooled, peer[f"pooled{aligned:d}{ratio}"], atol=1e-5)
    np.testing.assert_allclose(back, peer[f"back{aligned:d}{ratio}"], atol=1e-5)


def test_a_pyramid_is_torchvisions():
    peer = golden("pyramid")
    levels = assign_levels(peer["boxes"], 2, 4, canonical_size=56)
    assert set(levels.ravel().tolist()) == {0, 1, 2}
    maps = [peer[f"map{i}"] for i in range(3)]
    settings = {"strides": (4.0, 8.0, 16.0), "size": 7, "sampling_ratio": 2}
    pooled = ALIGN(maps, peer["boxes"], levels, aligned=False, **settings)
    np.testing.assert_allclose(pooled, peer["pooled"], atol=1e-5)


@pytest.mark.parametrize(("aligned", "ratio"), [(False, 0), (True, 0), (True, 2)])
def test_definition(aligned, ratio):
    """Boxes without size, upside down, beyond and larger than the image; several chunks a level."""
    maps, boxes, levels = draw(0)
    settings = {"size": 3, "sampling_ratio": ratio, "aligned": aligned}
    pooled = ALIGN(maps, boxes, levels, strides=STRIDES, **settings)
    for b in range(2):
        for r, level in enumerate(levels[b].tolist()):
            if level < 0:
                assert not pooled[b, r].any()
                continue
            features = np.asarray(maps[level][b])
            expected = align_one(features, boxes[b, r], STRIDES[level], **settings)
            np.testing.assert_allclose(pooled[b, r], expected, atol=2e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradient_is_the_adjoint(ratio):
    """The features are linear in the maps, so <gradient, pool(x)> is <backward(gradient), x>."""
    maps, boxes, levels = draw(1)
    settings = {"strides": STRIDES, "size": 3, "sampling_ratio": ratio}

    @jax.jit
    def both(maps, boxes, gradient):
        pooled, back = jax.vjp(lambda *x: roi_align(*x, levels, **settings), maps, boxes)
        return pooled, back(gradient)

    gradient = jnp.asarray(np.random.default_rng(2).normal(size=(2, 40, 3, 3, 2)), jnp.float32)
    pooled, (found, of_boxes) = both(maps, boxes, gradient)
    products = [(a * b).sum() for a, b in zip(found, maps, strict=True)]
    np.testing.assert_allclose(sum(products), (gradient * pooled).sum(), rtol=1e-4)
    assert not of_boxes.any()


def test_chunks_do_not_matter(monkeypatch):
    maps, boxes, levels = draw(3, rois=70)
    maps, levels = maps[:1], jnp.minimum(levels, 0)
    settings = {"strides": STRIDES[:1], "size": 2}
    expected = roi_align(maps, boxes, levels, **settings)
    for name, value in (("_MOST_ROIS", 7), ("_MOST_VALUES", 1)):
        monkeypatch.setattr(f"zoo.ops.roi_chunks.{name}", value)
        found = roi_align(maps, boxes, levels, **settings)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_boxes_that_are_not_numbers_end():
    maps, boxes, levels = draw(4)
    boxes = boxes.at[:, 5].set(jnp.nan).at[:, 6, 2].set(jnp.inf).at[:, 7].mul(1e9)
    levels = levels.at[:, 5:8].set(0)
    pooled = ALIGN(maps, boxes, levels, strides=STRIDES, size=3, sampling_ratio=0)
    assert np.isfinite(pooled).all()
    assert not pooled[:, 5].any()


def test_half_precision():
    maps, boxes, levels = draw(5)
    half = maps[0].astype(jnp.bfloat16)

    @jax.jit
    def both(features):
        pool = functools.partial(roi_align, strides=STRIDES[:1], size=3, sampling_ratio=2)
        pooled, back = jax.vjp(lambda x: pool([x], boxes, jnp.minimum(levels, 0)), features)
        return pooled, back(jnp.ones_like(pooled))[0]

    for found, exact in zip(both(half), both(half.astype(jnp.float32)), strict=True):
        assert found.dtype == jnp.bfloat16
        found = found.astype(jnp.float32)
        np.testing.assert_allclose(found, exact, rtol=2**-8, atol=1e-6)  # rounded once


def test_no_boxes_and_no_compilation_for_other_ones():
    maps, boxes, levels = draw(6)
    settings = {"strides": STRIDES, "size": 3}
    assert roi_align(maps, boxes[:, :0], levels[:, :0], **settings).shape == (2, 0, 3, 3, 2)
    pool = jax.jit(lambda *x: roi_align(*x, **settings))
    pool(maps, boxes, levels)
    pool(maps, boxes * 0.5, levels % 2)
    assert pool._cache_size() == 1


def test_as_many_strides_as_maps():
    maps, boxes, levels = draw(7)
    with pytest.raises(ValueError, match="2 feature maps, but 1 strides"):
        roi_align(maps, boxes, levels, strides=(4.0,), size=3)


@pytest.mark.slow
@pytest.mark.parametrize(("aligned", "ratio"), [(False, 2), (True, 0)])
def test_memory(aligned, ratio):
    """512 boxes on the pyramid of an 800 x 1344 image with 256 channels, and their gradient."""
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    maps = [shape((1, 200 // 2**i, 336 // 2**i, 256)) for i in range(4)]
    settings = {"strides": (4.0, 8.0, 16.0, 32.0), "sampling_ratio": ratio, "aligned": aligned}

    def backward(maps, boxes, levels, gradient):
        pool = functools.partial(roi_align, size=7, **settings)
        return jax.vjp(lambda x: pool(x, boxes, levels), maps)[1](gradient)

    levels = jax.ShapeDtypeStruct((1, 512), jnp.int32)
    args = maps, shape((1, 512, 4)), levels, shape((1, 512, 7, 7, 256))
    temporary = jax.jit(backward).lower(*args).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 60e6


def test_levels_are_torchvisions():
    peer = golden("levels")
    np.testing.assert_array_equal(assign_levels(peer["boxes"], 2, 5), peer["levels"])


@pytest.mark.parametrize("form", ["detectron2", "mmdet"])
def test_levels_of_others(form):
    boxes = golden("levels")["boxes"]
    side = np.sqrt(np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
    if form == "detectron2":
        found = assign_levels(boxes, 2, 5, level_epsilon=0.0, ratio_epsilon=1e-8)
        expected = np.clip(np.floor(4 + np.log2(side / 224 + 1e-8)), 2, 5) - 2
    else:
        rule = {"canonical_size": 56, "canonical_level": 2}
        found = assign_levels(boxes, 2, 5, **rule, level_epsilon=0.0, ratio_epsilon=1e-6)
        expected = np.clip(np.floor(np.log2(side / 56 + 1e-6)), 0, 3)
    np.testing.assert_array_equal(found, expected)


def test_levels_of_degenerate_boxes():
    boxes = jnp.array([[5.0, 5, 5, 9], [9, 9, 1, 1], [0, 0, 0, 0]])
    assert assign_levels(boxes, 2, 5).tolist() == [0, 0, 0]
