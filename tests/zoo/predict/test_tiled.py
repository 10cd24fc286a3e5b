import numpy as np
import pytest

import zoo
from zoo.ops.tiles import Tiling
from zoo.outputs import Segments
from zoo.predict import make_tiling, predict_tiled


def test_windows_of_a_model():
    same = zoo.create("unet_nano")
    assert make_tiling(same, (60, 64), 0.25) == Tiling((60, 64), 0, 15, 4)
    assert make_tiling(same, (4, 4), 0.75) == Tiling((4, 4), 0, 0, 4)
    assert make_tiling(zoo.create("unet"), (572, 600), 0.25) == Tiling((572, 604), 92, 0, 16)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_images_of_all_sizes_pass_in_order_through_batches_of_windows(batch_size):
    rng = np.random.default_rng(0)
    sizes = [(5, 9), (40, 33), (8, 8), (1, 1), (17, 64)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    seen = []

    def predict(windows):
        seen.append(len(windows))
        return Segments(windows[..., 0], windows[..., 1] / np.float32(255))

    results = list(predict_tiled(predict, images, Tiling((8, 12), 0, 2, 2), batch_size))
    assert len(results) == len(images) and set(seen) == {batch_size}
    for image, found in zip(images, results, strict=True):
        np.testing.assert_array_equal(found.labels, image[..., 0])
        np.testing.assert_array_equal(found.scores, image[..., 1] / np.float32(255))
