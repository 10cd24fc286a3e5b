"""Pairs of proposals that two implementations of a detector chose, for `check_parity`."""

import numpy as np


def align_regions(ours: dict, theirs: dict) -> tuple[dict, dict, float]:
    """The rows of the proposals that both chose, and the share of the peer's that have none."""
    found = [key for key in theirs if key not in ("rpn_logits", "rpn_deltas")]
    rows, absent = [], []
    for ours_boxes, boxes in zip(ours["proposals"], theirs["proposals"], strict=True):
        distance = np.abs(boxes[:, None] - ours_boxes).max(axis=-1)
        rows.append((distance.min(axis=1) < 0.1, distance.argmin(axis=1)))
        absent.append(1 - rows[-1][0].mean())
    ours, theirs = dict(ours), dict(theirs)
    for key in found:
        pairs = list(zip(rows, ours[key], theirs[key], strict=True))
        ours[key] = np.concatenate([x[index[good]] for (good, index), x, _ in pairs])
        theirs[key] = np.concatenate([x[good] for (good, _), _, x in pairs])
    return ours, theirs, float(np.mean(absent))
