"""Detections as columns: the contents of result files of any format."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from zoo.ops.rle import Masks


class Results(NamedTuple):
    """Detected objects, one in each row, in the order of the file.

    Attributes:
        images: Positions in the images of the annotations.
        categories: Category ids.
        scores: Confidences.
        boxes_xywh: Left, top, width, height in pixels.
        areas: In square pixels.
        masks: None if they are not read.
        keypoints: x, y and confidence of each joint; None if they are not read.
    """

    images: Int[np.ndarray, " n"]
    categories: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    boxes_xywh: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, " n"]
    masks: Masks | None = None
    keypoints: Float[np.ndarray, "n j 3"] | None = None
