"""The grouping against one that computes everything anew from the pixels of the regions."""

import itertools

import numpy as np
import pytest

from zoo.classical.regions import derivatives, describe, group


def box(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def histogram(planes, mask, bins):
    counts = [np.histogram(plane[mask], bins, (0, 256))[0] for plane in np.moveaxis(planes, -1, 0)]
    return np.concatenate(counts) / np.sum(counts)


def similarity(a, b, names, image, texture):
    area, together = a.size, box(a | b)
    width, height = together[2] - together[0], together[3] - together[1]
    values = {
        "size": 1 - (a.sum() + b.sum()) / area,
        "fill": 1 - (width * height - a.sum() - b.sum()) / area,
    }
    for name, planes, bins in (("colour", image, 25), ("texture", texture, 10)):
        values[name] = np.minimum(histogram(planes, a, bins), histogram(planes, b, bins)).sum()
    return sum(values[name] for name in names)


def touch(a, b):
    """Side by side, one above the other, or one diagonally above to the left of the other."""
    for first, second in ((a, b), (b, a)):
        for down, right in ((0, 1), (1, 0), (1, 1)):
            height, width = a.shape[0] - down, a.shape[1] - right
            if (first[:height, :width] & second[down:, right:]).any():
                return True
    return False


def slow_group(labels, image, texture, names):
    alive = {i: labels == i for i in range(labels.max() + 1)}
    boxes = [box(mask) for mask in alive.values()]
    while pairs := [
        (a, b) for a, b in itertools.combinations(alive, 2) if touch(alive[a], alive[b])
    ]:
        rated = [similarity(alive[a], alive[b], names, image, texture) for a, b in pairs]
        a, b = pairs[int(np.argmax(rated))]
        alive[len(boxes)] = alive.pop(a) | alive.pop(b)
        boxes.append(box(alive[len(boxes)]))
    return boxes


@pytest.mark.parametrize(
    "names",
    [("colour", "texture", "size", "fill"), ("texture", "fill"), ("colour",), ("fill",), ("size",)],
)
def test_equals_grouping_of_pixels(names):
    """The regions are patches with irregular borders, of different sizes."""
    rng = np.random.default_rng(len(names))
    image = rng.integers(0, 256, (18, 23, 3), np.uint8) // rng.integers(1, 9, (18, 23, 1), np.uint8)
    seeds = rng.uniform(0, 20, (9, 2))
    points = np.stack(np.indices(image.shape[:2]), -1)[:, :, None]
    labels = ((points - seeds) ** 2).sum(-1).argmin(-1)
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    texture = derivatives(image)
    found = group(describe(labels, image, texture), names)
    assert found.tolist() == slow_group(labels, image, texture, names)
    assert found[-1].tolist() == [0, 0, 23, 18]


def test_regions_that_do_not_touch_stay():
    labels = np.array([[0, 1], [2, 0]])  # 1 is diagonally above 2, to its right
    image = np.zeros((2, 2, 1), np.uint8)
    regions = describe(labels, image, derivatives(image))
    assert regions.neighbours.tolist() == [[0, 1], [0, 2]]
    assert regions.boxes.tolist() == [[0, 0, 2, 2], [1, 0, 2, 1], [0, 1, 1, 2]]


def test_derivatives():
    """Positive and negative part of the derivative in x, in y, and along both diagonals."""
    along = np.arange(0, 96, 4)

    def middle(image):
        return derivatives(image[..., None].astype(np.uint8))[12, 12]

    right = middle(np.tile(along, (24, 1)))
    assert right[:4].tolist() == [255, 0, 0, 0]
    down = middle(np.tile(along[:, None], (1, 24)))
    assert down[:4].tolist() == [0, 0, 255, 0]
    # The turned channel is surrounded by black, so there the diagonal derivatives have either sign;
    # a negative part is stretched so that no slope is 255.
    lower_right = middle(np.add.outer(along, along))
    assert lower_right[4] > 0 and lower_right[5:].tolist() == [255, 0, 255]
    upper_right = middle(np.add.outer(along[::-1], along))
    assert upper_right[4:7].tolist() == [0, 255, 0] and 0 < upper_right[7] < 255


def test_derivatives_of_a_wide_image_are_in_their_place():
    """A bright ramp at the left end: the same slopes as in the middle of a square image."""
    ramp = np.add.outer(np.arange(0, 72, 6), np.arange(0, 72, 6))
    wide = np.pad(ramp, [(0, 0), (0, 48)], mode="edge")[..., None].astype(np.uint8)
    slopes = derivatives(wide)[..., 4].astype(int)
    assert slopes[3:9, 3:9].min() > 1.2 * slopes[3:9, 20:50].max()
