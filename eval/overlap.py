"""Overlap of detection and ground truth, pair by pair: boxes, masks, keypoints (OKS).

Every function takes p pairs as two index arrays, so that one call serves all images and
categories. Formulas, and the order of their floating point operations, are COCO's.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from eval.records import Detections, Objects
from eval.rle import intersections

# Standard deviations of human annotators for COCO's 17 joints, nose to ankles.
COCO_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 100 / 10
)

Pairs = Int[np.ndarray, " p"]
Overlap = Callable[[Detections, Objects, Pairs, Pairs], Float[np.ndarray, " p"]]


def box_iou(
    detections: Detections, objects: Objects, d: Pairs, g: Pairs
) -> Float[np.ndarray, " p"]:
    """IoU of boxes; for crowds the share of the detection that is inside."""
    iou, _ = _box_overlap(detections.boxes_xywh[d], objects.boxes_xywh[g], objects.crowd[g])
    return iou


def _box_overlap(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU and intersection of boxes xywh."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.T, b.T
    width = np.minimum(aw + ax, bw + bx) - np.maximum(ax, bx)
    height = np.minimum(ah + ay, bh + by) - np.maximum(ay, by)
    meets = (width > 0) & (height > 0)
    inter = np.where(meets, width * height, 0.0)
    area = aw * ah
    union = np.where(crowd, area, area + bw * bh - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=meets), inter


def mask_iou(
    detections: Detections, objects: Objects, d: Pairs, g: Pairs
) -> Float[np.ndarray, " p"]:
    """IoU of masks, as `box_iou`. Masks of differently sized images do not overlap."""
    a, b = detections.masks, objects.masks
    if a is None or b is None:
        raise ValueError("mask overlap needs masks in detections and objects")
    used_a, used_b = np.unique(d), np.unique(g)
    boxes_a, boxes_b = a.take(used_a).boxes_xywh(), b.take(used_b).boxes_xywh()
    area_a, area_b = a.areas()[d], b.areas()[g]
    crowd = objects.crowd[g]
    _, inter = _box_overlap(
        boxes_a[np.searchsorted(used_a, d)], boxes_b[np.searchsorted(used_b, g)], crowd
    )
    possible = (inter > 0) & (a.sizes[d] == b.sizes[g]).all(axis=1)
    iou = np.zeros(len(d))
    d, g, crowd = d[possible], g[possible], crowd[possible]
    area_a, area_b = area_a[possible], area_b[possible]
    common = intersections(a, b, d, g)
    union = np.where(crowd, area_a, area_a + area_b - common)
    iou[possible] = np.where(common == 0, 0, common / np.maximum(union, 1))
    return iou


class KeypointSimilarity:
    """OKS (COCO): mean over the labelled joints of a Gaussian of the distance.

    Its width grows with the object's area and the joint's `sigmas`. An object without labelled
    joints (always ignored) compares with its box, doubled around its centre, instead.
    """

    def __init__(self, sigmas: Float[np.ndarray, " k"] = COCO_SIGMAS) -> None:
        self.sigmas = sigmas

    def __call__(
        self, detections: Detections, objects: Objects, d: Pairs, g: Pairs
    ) -> Float[np.ndarray, " p"]:
        """Similarity of each pair, 0 to 1."""
        if detections.keypoints is None or objects.keypoints is None:
            raise ValueError("keypoint similarity needs keypoints in detections and objects")
        found, truth = detections.keypoints[d], objects.keypoints[g]
        labelled = truth[..., 2] > 0
        count = labelled.sum(axis=1)
        offset = found[..., :2] - truth[..., :2]
        bare = count == 0
        offset[bare] = self._distance_to_box(found[bare, :, :2], objects.boxes_xywh[g[bare]])
        labelled[bare] = True
        count[bare] = labelled.shape[1]
        squares = (offset**2).sum(axis=-1)
        areas = objects.areas[g, None] + np.spacing(1)
        exponents = squares / (self.sigmas * 2) ** 2 / areas / 2
        similarity = np.empty(len(d))
        for n in np.unique(count):  # sums of n terms each add up in COCO's order
            rows = count == n
            terms = np.exp(-exponents[rows][labelled[rows]]).reshape(-1, n)
            similarity[rows] = terms.sum(axis=1) / n
        return similarity

    @staticmethod
    def _distance_to_box(points: np.ndarray, boxes_xywh: np.ndarray) -> np.ndarray:
        corner, size = boxes_xywh[:, None, :2], boxes_xywh[:, None, 2:]
        low, high = corner - size, corner + size * 2
        return np.maximum(0, low - points) + np.maximum(0, points - high)
