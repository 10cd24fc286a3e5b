import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_image

from zoo.classical.templates import score_templates, template_detector
from zoo.ops.correlation import normalised_cross_correlation

PHOTO = jnp.asarray(load_sample_image("china.jpg") / 255, jnp.float32)


def iou(a, b):
    width, height = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("scale", [1.0, 1.6])
def test_finds_a_part_of_a_photo_at_another_scale(scale):
    """Within 1.5 px, although the nearest scale of the pyramid is 1.587 for 1.6."""
    part = np.array([330, 60, 354, 80])  # x, y, x, y, in the photo
    template = PHOTO[part[1] : part[3], part[0] : part[2]]
    crop = PHOTO[45:95, 310:375]
    size = round(50 * scale), round(65 * scale)
    image = jax.image.resize(crop, (*size, 3), "linear")[None]
    detector = template_detector(template[None], per_octave=3, min_score=0.7, max_boxes=5)
    found = jax.jit(detector)(image)
    expected = (part - [310, 45, 310, 45]) * np.tile([size[1] / 65, size[0] / 50], 2)
    assert found.valid[0, 0] and found.labels[0, 0] == 0
    np.testing.assert_allclose(found.boxes[0, 0], expected, atol=1.5)
    assert found.scores[0, 0] > (0.999 if scale == 1 else 0.9)


def test_finds_scans_of_digits():
    """Scans of a 0, a 3 and a 6 in noise: each at its place, as its class, and nothing else.

    The two scans of a 0 have the same label, and the brightness of a digit does not matter.
    """
    data = load_digits()
    scans = [
        data.images[np.flatnonzero(data.target == label)[i]]
        for label, i in ((0, 0), (0, 1), (3, 0), (6, 0))
    ]
    templates = jnp.asarray(np.stack(scans)[..., None], jnp.float32)
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 3, (40, 60))
    places = {(3, 5): 0, (20, 40): 1, (28, 10): 2, (6, 47): 3}
    for (y, x), which in places.items():
        image[y : y + 8, x : x + 8] += scans[which] * (0.5 + 0.3 * which)
    detector = template_detector(templates, labels=(0, 0, 3, 6), min_score=0.85, per_octave=1)
    found = jax.jit(detector)(jnp.asarray(image[None, ..., None], jnp.float32))
    valid = np.asarray(found.valid[0])
    found = sorted(
        (int(label), *box)
        for label, box in zip(
            found.labels[0][valid], np.asarray(found.boxes[0][valid]).tolist(), strict=True
        )
    )
    labels = (0, 0, 3, 6)
    assert found == sorted((labels[which], x, y, x + 8, y + 8) for (y, x), which in places.items())


def test_only_peaks_have_scores():
    images, templates = PHOTO[None, 150:190, 200:260], PHOTO[None, 160:170, 210:222]
    peaks = np.asarray(jax.jit(score_templates(templates))(images))[0, ..., 0]
    scores = np.asarray(jax.jit(normalised_cross_correlation)(images, templates))[0, ..., 0]
    around = np.pad(scores, 1, constant_values=-2)
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3))
    highest = scores == windows.max(axis=(2, 3))
    assert 0 < highest.sum() < highest.size / 4
    np.testing.assert_allclose(peaks, np.where(highest, scores, -1), atol=1e-6)
