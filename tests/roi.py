"""Regions of interest for tests: drawn boxes, RoIAlign from its definition, and the golden."""

import math

import jax.numpy as jnp
import numpy as np

from tests.pages import ROOT


def golden(part):
    """The arrays of a part of the golden that torchvision made."""
    with np.load(ROOT / "tests/golden/roi_torchvision.npz") as file:
        names = [name for name in file.files if name.startswith(f"{part}/")]
        return {name.removeprefix(f"{part}/"): jnp.asarray(file[name]) for name in names}


def draw_boxes(rng, n, height, width, beyond=0.4):
    """Boxes around and beyond an image, and degenerate ones; multiples of 1 / 4."""
    size = np.array([width, height])
    centre = rng.uniform(-beyond / 2, 1 + beyond / 2, (n, 2)) * size
    half = rng.uniform(0, 0.8, (n, 2)) ** 2 * size
    boxes = np.round(np.concatenate([centre - half, centre + half], axis=1) * 4) / 4
    boxes[:1, 2] = boxes[:1, 0]  # no width
    boxes[1:2] = 0
    boxes[2:3] = boxes[2:3, [2, 3, 0, 1]]  # right to left, and upside down
    boxes[3:4] = [-9 * width, -7 * height, -8 * width, -6 * height]  # far outside
    boxes[4:5] = [-3 * width, -5 * height, 4 * width, 2 * height]  # larger than the image
    return boxes.astype(np.float32)


def bilinear(features, y, x):
    """A sample of [h w c] at a place in cells; clamped to the map, 0 beyond a further cell."""
    h, w, _ = features.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return 0.0
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    upper = features[top, left] * (left + 1 - x) + features[top, right] * (x - left)
    lower = features[bottom, left] * (left + 1 - x) + features[bottom, right] * (x - left)
    return upper * (top + 1 - y) + lower * (y - top)


def align_one(features, box, stride, size, sampling_ratio, aligned):
    """RoIAlign of one box in one map [h w c], sample by sample."""
    left, top, right, bottom = (float(x) / stride - (0.5 if aligned else 0) for x in box)
    width, height = right - left, bottom - top
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    down = sampling_ratio or max(math.ceil(height / size), 0)
    across = sampling_ratio or max(math.ceil(width / size), 0)
    pooled = np.zeros((size, size, features.shape[2]))
    for i in range(size):
        for j in range(size):
            for y in range(down):
                for x in range(across):
                    place_y = top + (i + (y + 0.5) / down) * height / size
                    place_x = left + (j + (x + 0.5) / across) * width / size
                    pooled[i, j] += bilinear(features, place_y, place_x) / (down * across)
    return pooled
