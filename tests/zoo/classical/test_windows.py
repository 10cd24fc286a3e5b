import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from sklearn.datasets import load_sample_image

import zoo
from zoo.classical.windows import WindowDetector, score_convolutionally, score_windows
from zoo.ops.pyramid import image_pyramid, pyramid_sizes
from zoo.types import InputError

PHOTO = load_sample_image("flower.jpg")
IMAGES = jnp.asarray(
    np.stack([PHOTO[100:137, 200:245], PHOTO[240:277, 320:365]]) / 255, jnp.float32
)


class Unpadded(nn.Module):
    """A classifier whose convolutions are not padded; its stride is 4 and it sees 9 pixels."""

    def setup(self) -> None:
        self.first, self.second = (
            nn.Conv(dim, (size, size), 2, padding="VALID") for dim, size in ((6, 3), (8, 4))
        )
        self.head = nn.Dense(3)

    def features(self, images):
        return nn.relu(self.second(nn.relu(self.first(images))))

    def __call__(self, images):
        return self.head(self.features(images).mean(axis=(1, 2)))


def bound(model, variables):
    """The model's features and its head."""
    return (
        lambda x: model.apply(variables, x, method="features"),
        lambda x: model.apply(variables, x, method=lambda m, y: m.head(y)),
    )


@pytest.mark.parametrize("window", [(9, 9), (17, 21), (18, 24), (37, 45)])
def test_convolutionally_equals_one_by_one(window):
    """Also where the windows have pixels beyond the last cell of their feature map."""
    model = Unpadded()
    variables = model.init(jax.random.key(0), IMAGES)
    classify = functools.partial(model.apply, variables)
    alone = jax.jit(score_windows(classify, window, 4, batch_size=7))(IMAGES)
    together = jax.jit(score_convolutionally(*bound(model, variables), window, 4))(IMAGES)
    assert alone.shape == (2, (37 - window[0]) // 4 + 1, (45 - window[1]) // 4 + 1, 3)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert alone.std() > 0.01 or alone.shape[1:3] == (1, 1)


def test_a_fully_convolutional_classifier_needs_no_head():
    kernel = jax.random.normal(jax.random.key(1), (9, 9, 3, 2)) / 9

    def convolve(x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (4, 4), "VALID", dimension_numbers=dimensions
        )

    together = score_convolutionally(convolve, lambda x: x, (9, 9), 4)(IMAGES)
    alone = score_windows(lambda x: convolve(x)[:, 0, 0], (9, 9), 4)(IMAGES)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_any_classifier_of_the_zoo():
    """Each window as if it were an image of its own; a whole image also convolutionally."""
    model = zoo.create("resnet_nano", num_classes=4)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES[:, :32, :32])
    drawn = jax.random.normal(jax.random.key(1), variables["params"]["head"]["kernel"].shape)
    variables["params"]["head"]["kernel"] = drawn  # which begins as zeros
    classify = jax.jit(lambda x: model.apply(variables, x))
    found = jax.jit(score_windows(classify, (32, 32), 5, batch_size=5))(IMAGES)
    assert found.shape == (2, 2, 3, 4)
    crops = jnp.stack([IMAGES[0, :32, 5:37], IMAGES[1, :32, 5:37], IMAGES[1, 5:, 10:42]])
    expected = classify(crops)
    got = jnp.stack([found[0, 0, 1], found[1, 0, 1], found[1, 1, 2]])
    np.testing.assert_allclose(got, expected, atol=1e-5)

    def features(x):
        return model.apply(variables, x, method="feature_maps")[-1]

    head = bound(model, variables)[1]
    whole = score_convolutionally(features, head, (32, 32), model.feature_strides[-1])
    np.testing.assert_allclose(jax.jit(whole)(crops)[:, 0, 0], expected, atol=1e-5)


def maps(images):
    """Two scores of each window of 8 x 6 pixels, 2 pixels apart: its red and its green light."""
    means = nn.avg_pool(images, (8, 6), (2, 2))
    return means[..., :2]


def slow(image, detector):
    """The detections of one image: lists of boxes, scores and labels, best first."""
    found = []
    for size in pyramid_sizes(image.shape[:2], detector.window, per_octave=detector.per_octave):
        level = np.asarray(image_pyramid(image[None], (size,))[0][0])
        ratio = np.array([image.shape[1] / size[1], image.shape[0] / size[0]] * 2)
        for y in range(0, size[0] - 7, 2):
            for x in range(0, size[1] - 5, 2):
                box = np.array([x, y, x + 6, y + 8]) * ratio
                for k, score in enumerate(level[y : y + 8, x : x + 6].mean((0, 1))[:2]):
                    found.append((score, detector.labels[k], box))
    found.sort(key=lambda one: -one[0])
    kept = []
    for score, label, box in found[: detector.candidates]:
        overlaps = [overlap(box, b) for _, other, b in kept if other == label]
        if score > detector.min_score and max(overlaps, default=0) <= detector.iou_threshold:
            kept.append((score, label, box))
    return kept[: detector.max_boxes]


def overlap(a, b):
    width, height = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("settings", [{}, {"candidates": 60, "max_boxes": 5}, {"labels": (4, 4)}])
def test_equals_one_window_after_the_other(settings):
    settings = {"labels": (7, 3), "min_score": 0.2, "candidates": 300, **settings}
    detector = WindowDetector(maps, (8, 6), 2, per_octave=1, iou_threshold=0.3, **settings)
    found = jax.jit(detector)(IMAGES)
    assert found.boxes.shape == (2, detector.max_boxes, 4)
    for i in range(2):
        expected = slow(IMAGES[i], detector)
        valid = np.asarray(found.valid[i])
        assert valid.tolist() == [True] * len(expected) + [False] * (len(valid) - len(expected))
        assert len(expected) > 4
        scores, labels, boxes = (np.array(part) for part in zip(*expected, strict=True))
        np.testing.assert_allclose(found.scores[i][valid], scores, atol=1e-6)
        np.testing.assert_array_equal(found.labels[i][valid], labels)
        np.testing.assert_allclose(found.boxes[i][valid], boxes, rtol=1e-6)


def test_fewer_windows_than_boxes():
    detector = WindowDetector(maps, (8, 6), 2, (0, 1), min_score=-1.0, iou_threshold=1.0)
    found = jax.jit(detector)(IMAGES[:, :9, :8])
    assert found.boxes.shape == (2, 100, 4)
    # Two windows at 9 x 8 px and one at 8 x 7 px, with two scores each.
    assert found.valid.sum(axis=1).tolist() == [6, 6]
    assert found.labels.dtype == jnp.int32


def test_the_second_call_does_not_compile():
    detector = WindowDetector(maps, (30, 30), 2, (0, 1))
    compiled = jax.jit(detector)
    compiled(IMAGES)
    compiled(IMAGES * 0.5)
    assert compiled._cache_size() == 1


def test_errors():
    with pytest.raises(InputError, match=r"images of 37 x 45 px at scale 0\.5 are smaller than a"):
        WindowDetector(maps, (20, 6), 2, (0, 1), largest=0.5)(IMAGES)
    with pytest.raises(InputError, match="2 scores a window, but 3 labels"):
        jax.eval_shape(WindowDetector(maps, (30, 30), 2, (0, 1, 2)), IMAGES)
    with pytest.raises(InputError, match="max_boxes is 9; allowed are 1 to candidates, 8"):
        WindowDetector(maps, (8, 6), 2, candidates=8, max_boxes=9)
