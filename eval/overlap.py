"""Overlap of detection and ground truth, pair by pair: boxes, masks, keypoints (OKS).

Every function takes p pairs as two index arrays, so that one call serves all images and
categories. Where an overlap is certain to be below `least`, 0 may be given instead. Formulas, and
the order of their floating point operations, are COCO's.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from eval.records import Detections, Objects

# Standard deviations of human annotators for COCO's 17 joints, nose to ankles.
COCO_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 100 / 10
)

Pairs = Int[np.ndarray, " p"]
Overlap = Callable[[Detections, Objects, Pairs, Pairs, float], Float[np.ndarray, " p"]]


def box_iou(
    detections: Detections, objects: Objects, d: Pairs, g: Pairs, least: float = 0
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
    detections: Detections, objects: Objects, d: Pairs, g: Pairs, least: float = 0
) -> Float[np.ndarray, " p"]:
    """IoU of masks, as `box_iou`. Masks of differently sized images do not overlap."""
    from zoo.ops.rle import intersections  # brings JAX, for which boxes need not wait

    if detections.masks is None or objects.masks is None:
        raise ValueError("mask overlap needs masks in detections and objects")
    crowd = objects.crowd[g]
    d_used, d = np.unique(d, return_inverse=True)
    g_used, g = np.unique(g, return_inverse=True)
    a, b = detections.masks.take(d_used), objects.masks.take(g_used)
    _, most = _box_overlap(a.boxes_xywh()[d], b.boxes_xywh()[g], crowd)
    area_a, area_b = a.areas()[d], b.areas()[g]

    def iou(common: np.ndarray) -> np.ndarray:
        union = np.where(crowd, area_a, area_a + area_b - common)
        return common / np.maximum(union, 1)

    most = np.minimum(most, np.minimum(area_a, area_b))
    possible = (most > 0) & (iou(most) >= least) & (a.sizes[d] == b.sizes[g]).all(axis=1)
    common = np.zeros(len(d), np.int64)
    common[possible] = intersections(a, b, d[possible], g[possible])
    return iou(common)


class KeypointSimilarity:
    """OKS (COCO): mean over the labelled joints of a Gaussian of the distance.

    Its width grows with the object's area and the joint's `sigmas`. An object without labelled
    joints (always ignored) compares with its box, doubled around its centre, instead.
    """

    def __init__(self, sigmas: Float[np.ndarray, " k"] = COCO_SIGMAS) -> None:
        self.sigmas = sigmas

    def __call__(
        self, detections: Detections, objects: Objects, d: Pairs, g: Pairs, least: float = 0
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
