import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.roi import golden
from zoo.ops.box_coder import MAX_LOG_RATIO, BoxCoder

HEADS = BoxCoder((10.0, 10.0, 5.0, 5.0))


def draw(seed, n=30):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-20, 60, (n, 2)), rng.uniform(0.1, 40, (n, 2))
    return jnp.array(np.concatenate([corner, corner + size], axis=1), jnp.float32)


def test_deltas_are_torchvisions():
    peer = golden("coder")
    encoded = HEADS.encode(peer["boxes"], peer["anchors"])
    np.testing.assert_allclose(encoded, peer["encoded"], rtol=1e-5, atol=1e-5)
    decoded = HEADS.decode(peer["deltas"], peer["anchors"])
    assert (peer["deltas"][:, 2:] / 5 > MAX_LOG_RATIO).any()
    np.testing.assert_allclose(decoded, peer["decoded"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("legacy", [False, True])
def test_definition(legacy):
    """Box by box in float64; py-faster-rcnn's widths include the last pixel."""
    boxes, anchors = np.asarray(draw(0), float), np.asarray(draw(1), float)
    deltas = np.random.default_rng(2).normal(0, 0.5, (30, 4))
    encoded, decoded = [], []
    for (x1, y1, x2, y2), (a1, b1, a2, b2), (dx, dy, dw, dh) in zip(
        boxes, anchors, deltas, strict=True
    ):
        w, h, aw, ah = (v + legacy for v in (x2 - x1, y2 - y1, a2 - a1, b2 - b1))
        shift = [(x1 + w / 2 - a1 - aw / 2) / aw, (y1 + h / 2 - b1 - ah / 2) / ah]
        encoded.append([*shift, np.log(w / aw), np.log(h / ah)])
        x, y = a1 + aw / 2 + dx * aw, b1 + ah / 2 + dy * ah
        w, h = aw * np.exp(dw), ah * np.exp(dh)
        decoded.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    coder = BoxCoder(max_log_ratio=None, legacy=legacy)
    found = coder.encode(jnp.float32(boxes), jnp.float32(anchors))
    np.testing.assert_allclose(found, encoded, rtol=1e-4, atol=1e-4)
    found = coder.decode(jnp.float32(deltas), jnp.float32(anchors))
    np.testing.assert_allclose(found, decoded, rtol=1e-4, atol=1e-4)


def test_round_trip():
    boxes, anchors = draw(3), draw(4)
    back = HEADS.decode(HEADS.encode(boxes, anchors), anchors)
    np.testing.assert_allclose(back, boxes, atol=1e-3)
    legacy = BoxCoder(legacy=True)
    back = legacy.decode(legacy.encode(boxes, anchors), anchors)
    np.testing.assert_allclose(back - boxes, np.tile([0, 0, 1, 1], (30, 1)), atol=1e-3)


def test_clamps():
    anchors, deltas = draw(5), jnp.tile(jnp.array([0.0, 0.0, 9.0, -9.0]), (30, 1))
    size = anchors[:, 2:] - anchors[:, :2]

    def ratios(coder):
        boxes = coder.decode(deltas, anchors)
        return (boxes[:, 2:] - boxes[:, :2]) / size

    largest, smallest = 1000 / 16, np.exp(-9)
    np.testing.assert_allclose(ratios(BoxCoder())[:, 0], largest, rtol=1e-3)
    np.testing.assert_allclose(ratios(BoxCoder())[:, 1], smallest, atol=1e-4)
    np.testing.assert_allclose(ratios(BoxCoder(clamp_small=True))[:, 1], 16 / 1000, rtol=0.01)
    np.testing.assert_allclose(ratios(BoxCoder(max_log_ratio=None))[:, 0], np.exp(9), rtol=1e-3)


def test_padding_gives_finite_values_and_no_gradients():
    whole = [1.0, 2.0, 5.0, 9.0]
    empty = [[0.0, 0, 0, 0], [5.0, 5, 5, 9], [9.0, 9, 1, 1], [jnp.nan, 0, 1, 1], [0, 0, jnp.inf, 1]]
    boxes = jnp.array([whole] * 5 + empty)
    anchors = jnp.array(empty + [whole] * 5)
    assert (HEADS.encode(boxes, anchors) == 0).all()
    for argument in (0, 1):
        gradient = jax.grad(lambda *x: HEADS.encode(*x).sum(), argument)(boxes, anchors)
        assert (gradient == 0).all()
    real = jnp.array([whole, empty[0], empty[1]])
    gradient = jax.grad(lambda x: (HEADS.encode(x, jnp.flip(real[:1])) ** 2).sum())(real)
    assert np.isfinite(gradient).all()
    deltas = jnp.ones((2, 4))
    value, gradient = jax.value_and_grad(lambda x: HEADS.decode(x, real[1:]).sum())(deltas)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_a_box_for_each_class():
    anchors, deltas = draw(6), jnp.array(np.random.default_rng(7).normal(size=(30, 3, 4)))
    found = HEADS.decode(deltas, anchors[:, None])
    for i in range(3):
        np.testing.assert_allclose(found[:, i], HEADS.decode(deltas[:, i], anchors), rtol=1e-6)
