"""Compares the time of python -m eval.detection with the official tool's, from files to figures.

PYTHONPATH=. python tests/eval/generate.py DIR --iou_type=bbox
PYTHONPATH=. python tests/eval/speed.py DIR --iou_type=bbox --rounds=5

The tools run in turns, each time in a new process. Prints medians of seconds, processor seconds and
peak megabytes. faster-coco-eval is also measured if it is installed.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path


def ours(annotations: Path, results: Path, iou_type: str) -> None:
    import numpy as np

    from eval import files
    from eval.coco import CocoEvaluator

    truth = files.read_coco(annotations, iou_type)
    detections, _ = files.read_coco_results(results, truth, iou_type)
    evaluator = CocoEvaluator(truth.category_names, iou_type)
    evaluator.update(np.arange(len(truth.images)), truth.objects, detections)
    evaluator.compute()


def pycocotools(annotations: Path, results: Path, iou_type: str) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    _official(COCO, COCOeval, annotations, results, iou_type)


def faster_coco_eval(annotations: Path, results: Path, iou_type: str) -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    _official(COCO, COCOeval_faster, annotations, results, iou_type)


def _official(
    coco: type, evaluation: type, annotations: Path, results: Path, iou_type: str
) -> None:
    truth = coco(str(annotations))
    run = evaluation(truth, truth.loadRes(str(results)), iou_type)
    run.evaluate()
    run.accumulate()
    run.summarize()


TOOLS = {tool.__name__: tool for tool in (ours, pycocotools, faster_coco_eval)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iou_type", default="bbox", choices=("bbox", "segm", "keypoints"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=TOOLS, help="one run of one tool, as json")
    arguments = parser.parse_args()
    if arguments.only:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            files = (arguments.folder / f"{name}.json" for name in ("annotations", "results"))
            TOOLS[arguments.only](*files, arguments.iou_type)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([time.perf_counter() - start, time.process_time(), peak]))
        return
    tools = [t for t in TOOLS if t == "ours" or importlib.util.find_spec(t)]
    measured = defaultdict(list)
    for i in range(arguments.rounds):
        for tool in tools if i % 2 == 0 else tools[::-1]:
            command = [sys.executable, __file__, *sys.argv[1:], f"--only={tool}"]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            measured[tool].append(json.loads(run.stdout))
    for tool, rows in measured.items():
        seconds, cpu, peak = (statistics.median(c) for c in zip(*rows, strict=True))
        print(f"{tool:<18} {seconds:7.2f} s  {cpu:7.2f} s of processor  {peak:6.0f} MB")


if __name__ == "__main__":
    main()
