"""pycocotools as the tests call it: silently, on data in memory."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def evaluate(dataset: dict, results: list[dict], iou_type: str) -> COCOeval:
    """The official evaluation of COCO's own structures, which are left as they are."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        found = truth.loadRes(copy.deepcopy(results))
        official = COCOeval(truth, found, iou_type)
        official.evaluate()
        official.accumulate()
        official.summarize()
    assert isinstance(official.stats, np.ndarray)
    return official


def summary(official: COCOeval) -> list[str]:
    """The lines that the official tool prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        official.summarize()
    return printed.getvalue().splitlines()
