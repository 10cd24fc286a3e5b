"""Pairs of regions that two implementations of a detector chose, for `check_parity`.

Rounding can change which proposals and detections are chosen, and their order. So each of the
peer's is compared with our nearest one.
"""

from collections.abc import Callable

import numpy as np


def sizes_of(valid: np.ndarray) -> np.ndarray:
    """Height and width of each image of a padded batch."""
    return np.stack([valid.any(axis=axis).sum(axis=1) for axis in (2, 1)], axis=1)


def align(
    ours: dict, theirs: dict, find: Callable, objects: dict
) -> tuple[dict, dict, dict[str, float]]:
    """The outputs for what both chose; and the shares of the peer's that we did not choose.

    Args:
        ours: Our outputs.
        theirs: The peer's.
        find: Gives our detections.
        objects: The peer's detections, if they are to be compared: see `align_detections`.
    """
    ours, theirs, absent = align_regions(ours, theirs)
    if not objects:
        return ours, theirs, {"absent": absent}
    found, expected, lost = align_detections(find(), objects)
    return ours | found, theirs | expected, {"absent": absent, "absent_detections": lost}


def align_regions(ours: dict, theirs: dict) -> tuple[dict, dict, float]:
    """The rows of the proposals that both chose, and the share of the peer's that have none."""
    found = [key for key in theirs if key not in ("rpn_logits", "rpn_deltas")]
    rows, absent = [], []
    for ours_boxes, boxes in zip(ours["proposals"], theirs["proposals"], strict=True):
        rows.append(_nearest(ours_boxes, boxes))
        absent.append(1 - rows[-1][0].mean())
    ours, theirs = dict(ours), dict(theirs)
    for key in found:
        pairs = list(zip(rows, ours[key], theirs[key], strict=True))
        ours[key] = np.concatenate([x[index[good]] for (good, index), x, _ in pairs])
        theirs[key] = np.concatenate([x[good] for (good, _), _, x in pairs])
    return ours, theirs, float(np.mean(absent))


def align_detections(found, theirs: dict) -> tuple[dict, dict, float]:
    """As `align_regions`, for our detections and the peer's.

    The peer's have the names ``detections/i/NAME`` for image i.
    """
    parts: dict[str, list] = {}
    absent = []
    for i, valid in enumerate(np.asarray(found.valid)):
        peers = {
            key.rpartition("/")[2]: x for key, x in theirs.items() if f"detections/{i}/" in key
        }
        ours = _as_torchvision(found, i, valid)
        offsets = 1e4 * ours["labels"][:, None], 1e4 * peers["labels"][:, None]
        good, index = _nearest(ours["boxes"] + offsets[0], peers["boxes"] + offsets[1])
        absent.append(1 - good.mean())
        for key, x in peers.items():
            parts.setdefault(f"found_{key}", []).append((ours[key][index[good]], x[good]))
    joined = {key: [np.concatenate(x) for x in zip(*p, strict=True)] for key, p in parts.items()}
    ours, peers = ({key: pair[side] for key, pair in joined.items()} for side in (0, 1))
    return ours, peers, float(np.mean(absent))


def _nearest(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of the peer's boxes has one of ours within 0.1 px, and the nearest one."""
    distance = np.abs(theirs[:, None] - ours).max(axis=-1)
    return distance.min(axis=1) < 0.1, distance.argmin(axis=1)


def _as_torchvision(found, image: int, valid: np.ndarray) -> dict[str, np.ndarray]:
    """The detections of an image under torchvision's names."""
    arrays = {key: np.asarray(getattr(found, key)[image])[valid] for key in ("boxes", "scores")}
    arrays["labels"] = np.asarray(found.labels[image])[valid]
    if found.mask_crops is not None:
        arrays["masks"] = np.asarray(found.mask_crops[image])[valid][:, None]
    if found.keypoints is not None:
        joints = np.asarray(found.keypoints[image])[valid]
        arrays["keypoints_scores"] = joints[..., 2]
        arrays["keypoints"] = np.concatenate([joints[..., :2], np.ones_like(joints[..., :1])], -1)
    return arrays
