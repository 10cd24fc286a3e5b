"""Calls pycocotools without its output, on data in memory."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def evaluate(
    dataset: dict,
    results: list[dict],
    iou_type: str,
    most: int | None = None,
    sigmas: list[float] | None = None,
) -> COCOeval:
    """The official evaluation of data in COCO's structures, which it does not change.

    With `most`, up to so many detections of an image count, and nothing is summarised. `sigmas`
    are those of keypoints that are not COCO's.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        found = truth.loadRes(copy.deepcopy(results))
        official = COCOeval(truth, found, iou_type)
        if sigmas is not None:
            official.params.kpt_oks_sigmas = np.array(sigmas)
        if most is not None:
            official.params.maxDets = [most]
        official.evaluate()
        official.accumulate()
        if most is not None:
            return official
        official.summarize()
    assert isinstance(official.stats, np.ndarray)
    return official


def summary(official: COCOeval) -> list[str]:
    """The lines that the official tool prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        official.summarize()
    return printed.getvalue().splitlines()
