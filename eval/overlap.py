"""Overlap of detection and ground truth, pair by pair: boxes, masks, keypoints (OKS).

Every function takes p pairs as two index arrays, so that one call is enough for all images and
categories. It may return 0 for an overlap that is certainly below `least`. The formulas, and the
order of their floating point operations, are COCO's.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from eval.records import DetectionRows, ObjectRows
from zoo.ops.rle import intersections

# Standard deviations of human annotators for COCO's 17 joints, nose to ankles.
COCO_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 100 / 10
)

OTHER_SIGMA = float(COCO_SIGMAS.mean())  # 0.067: of joints that are not COCO's 17, unless given

Pairs = Int[np.ndarray, " p"]
Overlap = Callable[[DetectionRows, ObjectRows, Pairs, Pairs, float], Float[np.ndarray, " p"]]


def default_sigmas(joints: int) -> Float[np.ndarray, " k"]:
    """COCO's sigmas for 17 joints; for other numbers `OTHER_SIGMA` for each joint."""
    return COCO_SIGMAS if joints == len(COCO_SIGMAS) else np.full(joints, OTHER_SIGMA)


def box_iou(
    detections: DetectionRows, objects: ObjectRows, d: Pairs, g: Pairs, least: float = 0
) -> Float[np.ndarray, " p"]:
    """IoU of boxes; for crowds, the share of the detection's area that is inside the crowd."""
    iou, _ = _box_overlap(detections.boxes_xywh[d], objects.boxes_xywh[g], objects.crowd[g])
    return iou


def _box_overlap(
    a: Float[np.ndarray, "p 4"], b: Float[np.ndarray, "p 4"], crowd: Bool[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
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
    detections: DetectionRows, objects: ObjectRows, d: Pairs, g: Pairs, least: float = 0
) -> Float[np.ndarray, " p"]:
    """IoU of masks, as in `box_iou`. Masks of images of different sizes do not overlap."""
    if detections.masks is None or objects.masks is None:
        raise ValueError("mask overlap needs masks in detections and objects")
    crowd = objects.crowd[g]
    d_used, d = np.unique(d, return_inverse=True)
    g_used, g = np.unique(g, return_inverse=True)
    a, b = detections.masks.take(d_used), objects.masks.take(g_used)
    _, most = _box_overlap(a.boxes_xywh()[d], b.boxes_xywh()[g], crowd)
    area_a, area_b = a.areas()[d], b.areas()[g]

    def iou(common: Shaped[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        union = np.where(crowd, area_a, area_a + area_b - common)
        return common / np.maximum(union, 1)

    most = np.minimum(most, np.minimum(area_a, area_b))
    possible = (most > 0) & (iou(most) >= least) & (a.sizes[d] == b.sizes[g]).all(axis=1)
    common = np.zeros(len(d), np.int64)
    common[possible] = intersections(a, b, d[possible], g[possible])
    return iou(common)


class KeypointSimilarity:
    """OKS (COCO): the mean over the labelled joints of a Gaussian of the distance.

    The width of the Gaussian grows with the object's area and with the joint's sigma. If an object
    has no labelled joints, so that it is ignored, distances are measured to its box, enlarged to
    three times its sides around its centre.
    """

    def __init__(self, sigmas: Float[np.ndarray, " k"] = COCO_SIGMAS) -> None:
        self.sigmas = sigmas

    def __call__(
        self, detections: DetectionRows, objects: ObjectRows, d: Pairs, g: Pairs, least: float = 0
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
        for n in np.unique(count):  # together for equal n, to add in COCO's order
            rows = count == n
            terms = np.exp(-exponents[rows][labelled[rows]]).reshape(-1, n)
            similarity[rows] = terms.sum(axis=1) / n
        return similarity

    @staticmethod
    def _distance_to_box(
        points: Float[np.ndarray, "p k 2"], boxes_xywh: Float[np.ndarray, "p 4"]
    ) -> Float[np.ndarray, "p k 2"]:
        """Distances in x and y of points to the enlarged boxes; 0 inside."""
        corner, size = boxes_xywh[:, None, :2], boxes_xywh[:, None, 2:]
        low, high = corner - size, corner + size * 2
        return np.maximum(0, low - points) + np.maximum(0, points - high)
