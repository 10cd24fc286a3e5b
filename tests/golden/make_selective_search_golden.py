"""Makes selective_search.npz: regions and boxes of OpenCV's implementations.

pip install --no-deps --target=DIR opencv-contrib-python-headless
PYTHONPATH=DIR:. python tests/golden/make_selective_search_golden.py

The package (5.0.0.93) is no dependency of the tests, because it takes the place of
opencv-python-headless, which the zoo needs. Its quality mode overwrites the hue by the blue channel
before it uses it, so all settings are put together here from its parts.

The file holds a photo, ``picture``; ``regions/SPACE,K``, the regions of pixels; ``boxes/SPACE,K,
SIMILARITIES``, of one grouping, ``boxes/fast`` and ``boxes/quality``, ``xyxy``; and for each of
some digit scenes ``scene/I``, ``truth/I``, and ``found/I``, the boxes for smaller regions.
"""

from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_sample_image

from zoo.data.digit_scenes import draw_scene

SEGMENTATION = cv2.ximgproc.segmentation
STRATEGIES = {
    "colour": SEGMENTATION.createSelectiveSearchSegmentationStrategyColor,
    "texture": SEGMENTATION.createSelectiveSearchSegmentationStrategyTexture,
    "size": SEGMENTATION.createSelectiveSearchSegmentationStrategySize,
    "fill": SEGMENTATION.createSelectiveSearchSegmentationStrategyFill,
}
FOUR, THREE = "colour+texture+size+fill", "texture+size+fill"


def convert(picture: np.ndarray, space: str) -> np.ndarray:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    intensity = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return {
        "hsv": hsv,
        "lab": cv2.cvtColor(picture, cv2.COLOR_RGB2LAB),
        "intensity": intensity,
        "hue": np.ascontiguousarray(hsv[..., 0]),
        "rgi": np.dstack([picture[..., :2], intensity]),
    }[space]


def search(
    picture: np.ndarray, spaces: list, ks: list, groupings: list, min_size: int = 100
) -> np.ndarray:
    """All boxes, sorted, because OpenCV orders them at random."""
    searcher = SEGMENTATION.createSelectiveSearchSegmentation()
    searcher.setBaseImage(np.ascontiguousarray(picture[..., ::-1]))
    for space in spaces:
        searcher.addImage(convert(picture, space))
    for k in ks:
        searcher.addGraphSegmentation(SEGMENTATION.createGraphSegmentation(0.8, k, min_size))
    for names in groupings:
        parts = names.split("+")
        together = SEGMENTATION.createSelectiveSearchSegmentationStrategyMultiple()
        for name in parts:
            together.addStrategy(STRATEGIES[name](), 1 / len(parts))
        searcher.addStrategy(together)
    boxes = searcher.process()
    boxes[:, 2:] += boxes[:, :2]
    return np.unique(boxes, axis=0).astype(np.int16)


def main() -> None:
    picture = cv2.resize(load_sample_image("china.jpg"), (160, 120), interpolation=cv2.INTER_AREA)
    arrays = {"picture": picture}
    for space, k in (("hsv", 150), ("lab", 300), ("hue", 50)):
        segmentation = SEGMENTATION.createGraphSegmentation(0.8, k, 100)
        regions = segmentation.processImage(convert(picture, space))
        arrays[f"regions/{space},{k}"] = regions.astype(np.uint8)
    for space in ("hsv", "lab", "intensity", "hue", "rgi"):
        for names in (*STRATEGIES, FOUR, THREE):
            arrays[f"boxes/{space},150,{names}"] = search(picture, [space], [150], [names])
    fast = (["hsv", "lab"], [150, 300, 450], [FOUR, THREE])
    arrays["boxes/fast"] = search(picture, *fast)
    quality = ["hsv", "lab", "intensity", "hue", "rgi"], [150, 300, 450, 600, 750]
    arrays["boxes/quality"] = search(picture, *quality, [FOUR, THREE, "fill", "size"])
    for index in range(3):
        scene = draw_scene("test", index)
        arrays[f"scene/{index}"], arrays[f"truth/{index}"] = scene.image, scene.boxes
        found = search(scene.image, fast[0], [50, 100, 150], fast[2], min_size=10)
        arrays[f"found/{index}"] = found
    np.savez_compressed(Path(__file__).parent / "selective_search.npz", **arrays)


if __name__ == "__main__":
    main()
