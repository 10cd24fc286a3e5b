from pathlib import Path

import cv2
import numpy as np
import pytest

from zoo.classical.graph_segmentation import segment, sorted_edges

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "selective_search.npz")


def slow(image, k, sigma, min_size):
    """Components as sets of pixels, merged edge by edge as the paper says."""
    height, width = image.shape[:2]
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma).reshape(height, width, -1)
    edges = []
    for down, right in ((0, 1), (1, 0)):
        for y in range(height - down):
            for x in range(width - right):
                a, b = (y, x), (y + down, x + right)
                edges.append((np.linalg.norm(smooth[a] - smooth[b]), a, b))
    edges.sort(key=lambda edge: edge[0])
    component = {(y, x): {(y, x)} for y in range(height) for x in range(width)}
    internal = dict.fromkeys(component, 0.0)  # the same for all pixels of a component

    def merge(a, b):
        together = component[a] | component[b]
        component.update(dict.fromkeys(together, together))
        return together

    for weight, a, b in edges:
        tolerated = min(internal[p] + k / len(component[p]) for p in (a, b))
        if component[a] is not component[b] and weight <= tolerated:
            internal.update(dict.fromkeys(merge(a, b), weight))
    for _, a, b in edges:
        sizes = len(component[a]), len(component[b])
        if component[a] is not component[b] and min(sizes) < min_size:
            merge(a, b)
    numbers = {}
    for pixel in sorted(component):
        numbers.setdefault(id(component[pixel]), len(numbers))
    order = [numbers[id(component[pixel])] for pixel in sorted(component)]
    return np.array(order).reshape(height, width)


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    shape = (*rng.integers(1, 13, 2), *((3,) if seed % 2 else ()))
    image = rng.integers(0, 256, shape, np.uint8)
    if seed % 3 == 0:
        image = image // 128 * 100  # many edges of equal weight
    k, sigma, min_size = rng.uniform(1, 500), rng.uniform(0.3, 1.5), int(rng.integers(1, 9))
    found = segment(sorted_edges(image, sigma), k, min_size)
    np.testing.assert_array_equal(found, slow(image, k, sigma, min_size))


def test_a_flat_image_is_one_region():
    assert not segment(sorted_edges(np.full((9, 7, 3), 50, np.uint8)), 100.0, 1).any()


@pytest.mark.parametrize("space", ["hsv", "lab", "hue"])
def test_equals_opencv_on_a_photo(space):
    """The same blur in the same program: equal, but for rounding on another processor."""
    picture = GOLDEN["picture"]
    converted = {
        "hsv": cv2.cvtColor(picture, cv2.COLOR_RGB2HSV),
        "lab": cv2.cvtColor(picture, cv2.COLOR_RGB2LAB),
        "hue": cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 0],
    }[space]
    key = next(name for name in GOLDEN.files if name.startswith(f"regions/{space},"))
    found = segment(sorted_edges(converted), float(key.partition(",")[2]))
    assert found.max() > 3
    assert (found == GOLDEN[key]).mean() > 0.99
