import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from zoo.losses.segmentation import (
    LOSSES,
    cross_entropy,
    dice,
    focal,
    lovasz,
    pixel_weights,
)

K = 4
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.0], np.float32)


@pytest.fixture(scope="module")
def drawn():
    """Logits and labels of two images; a fifth of the labels is the label to ignore."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 6, 7, K)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6, 7))  # class 3 is in no image
    labels[rng.random(labels.shape) < 0.2] = 255
    labels[1][labels[1] == 2] = 1  # class 2 is not in the second image
    return logits, labels.astype(np.uint8)


def pixels(logits, labels):
    """(log-probabilities, labels) of the pixels that are not ignored, for each image."""
    log_p = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    return [(log_p[i][labels[i] != 255], labels[i][labels[i] != 255]) for i in range(len(labels))]


@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS])
def test_cross_entropy_is_torchs_with_weights_and_an_ignored_label(drawn, class_weights):
    # torch: the sum of w[y] * -log p[y] divided by the sum of w[y], over labels not ignored.
    top = bottom = 0.0
    for log_p, y in pixels(*drawn):
        for row, label in zip(log_p, y, strict=True):
            w = 1.0 if class_weights is None else class_weights[label]
            top, bottom = top - w * row[label], bottom + w
    logits, labels = map(jnp.asarray, drawn)
    given = None if class_weights is None else jnp.asarray(class_weights)
    loss = jax.jit(cross_entropy)(logits, labels, pixel_weights(labels, given)).mean()
    np.testing.assert_allclose(loss, top / bottom, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal(drawn, gamma):
    terms = [
        -((1 - np.exp(row[label])) ** gamma) * row[label]
        for log_p, y in pixels(*drawn)
        for row, label in zip(log_p, y, strict=True)
    ]
    logits, labels = map(jnp.asarray, drawn)
    loss = focal(logits, labels, pixel_weights(labels), gamma).mean()
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-5)


def test_dice(drawn):
    terms = []
    for log_p, y in pixels(*drawn):
        p = np.exp(log_p)
        for c in np.unique(y):
            common = p[y == c, c].sum()
            terms.append(1 - (2 * common + 1) / (p[:, c].sum() + (y == c).sum() + 1))
    logits, labels = map(jnp.asarray, drawn)
    loss = jax.jit(dice)(logits, labels, pixel_weights(labels))
    assert loss.weights.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    np.testing.assert_allclose(loss.mean(), np.mean(terms), rtol=1e-5)


def lovasz_extension(errors, wrong):
    """Sums error * increase of the Jaccard loss, adding wrong pixels from the largest error on."""

    def jaccard_loss(mispredicted):
        """1 - IoU where `mispredicted` pixels of the true mask `wrong` are wrong."""
        union = (wrong | mispredicted).sum()
        return mispredicted.sum() / union if union else 0.0

    total, mispredicted, before = 0.0, np.zeros(len(errors), bool), 0.0
    for i in np.argsort(-errors, kind="stable"):
        mispredicted[i] = True
        total += errors[i] * (jaccard_loss(mispredicted) - before)
        before = jaccard_loss(mispredicted)
    return total


def test_lovasz(drawn):
    terms = []
    for log_p, y in pixels(*drawn):
        for c in np.unique(y):
            terms.append(lovasz_extension(np.abs((y == c) - np.exp(log_p[:, c])), y == c))
    logits, labels = map(jnp.asarray, drawn)
    loss = jax.jit(lovasz)(logits, labels, pixel_weights(labels)).mean()
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_right_and_wrong_predictions(name):
    labels = jnp.arange(24).reshape(1, 4, 6) % K
    right = 50 * jax.nn.one_hot(labels, K)
    weights = pixel_weights(labels)
    assert LOSSES[name](right, labels, weights).mean() < 1e-5
    wrong = LOSSES[name](jnp.roll(right, 1, axis=-1), labels, weights).mean()
    assert wrong > 0.85
    gradient = jax.grad(lambda x: LOSSES[name](x, labels, weights).mean())(right)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_nothing_and_have_no_gradient(drawn, name):
    logits, labels = map(jnp.asarray, drawn)

    @jax.jit
    def loss(logits):
        return LOSSES[name](logits, labels, pixel_weights(labels)).mean()

    ignored = (labels == 255)[..., None]
    value, gradient = jax.value_and_grad(loss)(logits)
    np.testing.assert_allclose(loss(jnp.where(ignored, -logits, logits)), value, rtol=1e-6)
    assert not jnp.where(ignored, gradient, 0).any()
    assert jnp.where(ignored, 1, jnp.abs(gradient).sum(-1, keepdims=True)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_but_ignored_pixels_is_no_loss(name):
    labels = jnp.full((2, 3, 3), 255, jnp.uint8)
    loss = LOSSES[name](jnp.ones((2, 3, 3, K), jnp.bfloat16), labels, pixel_weights(labels))
    assert loss.mean() == 0
