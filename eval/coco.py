"""COCO's detection metrics, equal to pycocotools' to the last bit.

https://cocodataset.org/#detection-eval. One deviation: pycocotools treats a match with the
annotation of id 0 as no match, so that the object counts as missed and its detections as false.
Here an annotation of id 0 is an object like any other.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from jaxtyping import Float

from eval.average_precision import Curves, accumulate
from eval.collected import Collected
from eval.matching import Matched, Settings, match_detections
from eval.overlap import COCO_SIGMAS, KeypointSimilarity, Overlap, box_iou, mask_iou
from eval.records import DetectionRows, ObjectRows, take
from zoo.data.formats.coco_results import IouType

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One figure of the summary: the mean over the part of an array that the fields select."""

    key: str
    of: Literal["precision", "recall"]
    threshold: float | None = None
    area: str = "all"
    most: int = 100


def _summary(iou_type: IouType) -> tuple[Line, ...]:
    if iou_type == "keypoints":
        prefixes: tuple[tuple[str, Literal["precision", "recall"]], ...]
        prefixes = (("AP", "precision"), ("AR", "recall"))
        kinds = (
            ("", None, "all"),
            ("50", 0.5, "all"),
            ("75", 0.75, "all"),
            ("m", None, "medium"),
            ("l", None, "large"),
        )
        return tuple(
            Line(prefix + suffix, of, threshold, area, 20)
            for prefix, of in prefixes
            for suffix, threshold, area in kinds
        )
    sizes = (("s", "small"), ("m", "medium"), ("l", "large"))
    return (
        Line("AP", "precision"),
        Line("AP50", "precision", 0.5),
        Line("AP75", "precision", 0.75),
        *(Line(f"AP{letter}", "precision", area=area) for letter, area in sizes),
        *(Line(f"AR{most}", "recall", most=most) for most in (1, 10, 100)),
        *(Line(f"AR{letter}", "recall", area=area) for letter, area in sizes),
    )


class CocoEvaluator(Collected):
    """COCO's AP and AR of boxes, masks or keypoints.

    >>> one, no = np.array([1]), np.array([False])
    >>> box = np.array([[10.0, 10.0, 20.0, 20.0]])  # xywh
    >>> evaluator = CocoEvaluator({1: "cat"})
    >>> truth = ObjectRows(one, one, box, np.array([400.0]), crowd=no, ignored=no)
    >>> found = DetectionRows(one, one, np.array([0.9]), box + [2, 0, 0, 0], np.array([400.0]))
    >>> evaluator.update([1], truth, found)
    >>> figures = evaluator.compute()  # the boxes' IoU is 0.82
    >>> [round(figures[name], 3) for name in ("AP", "AP50", "AR100")]
    [0.7, 1.0, 0.7]

    Args:
        categories: Names by category id.
        iou_type: What overlaps: ``bbox``, ``segm`` or ``keypoints``.
        sigmas: Of each joint, for keypoints; COCO's 17 by default.
    """

    def __init__(
        self,
        categories: Mapping[int, str],
        iou_type: IouType = "bbox",
        sigmas: Float[np.ndarray, " k"] = COCO_SIGMAS,
    ) -> None:
        super().__init__()
        self.categories = dict(sorted(categories.items()))
        self.lines = _summary(iou_type)
        keypoints = iou_type == "keypoints"
        self.areas = tuple(area for area in AREAS if not (keypoints and area == "small"))
        self.max_detections = (20,) if keypoints else (1, 10, 100)
        self.official_max = self.max_detections[-1]
        self.settings = Settings(THRESHOLDS, tuple(AREAS[area] for area in self.areas))
        self.overlap: Overlap = {
            "bbox": box_iou,
            "segm": mask_iou,
            "keypoints": KeypointSimilarity(sigmas),
        }[iou_type]

    def also_with(self, most: int) -> None:
        """Adds the figures for up to `most` detections of an image and category.

        Their names end in ``@MOST``, as ``AP@300`` and ``AR@300`` do; the others stay as they are.
        """
        if most == self.official_max:
            return
        self.max_detections = tuple(sorted({*self.max_detections, most}))
        official = [line for line in self.lines if line.most == self.official_max]
        self.lines += tuple(
            dataclasses.replace(
                line, key=f"{line.key.removesuffix(str(self.official_max))}@{most}", most=most
            )
            for line in official
        )

    @property
    def has_masks(self) -> bool:
        """Whether all objects and detections have masks, so that they can be scored by them."""
        parts = [*self._objects, *self._detections]
        return bool(parts) and all(part.masks is not None for part in parts)

    @property
    def has_keypoints(self) -> bool:
        """Whether all objects and detections have keypoints, as `has_masks`."""
        parts = [*self._objects, *self._detections]
        return bool(parts) and all(part.keypoints is not None for part in parts)

    def by_masks(self) -> Self:
        """An evaluator of the same objects and detections by masks, which all of them must have."""
        other = type(self)(self.categories, "segm")
        other.merge(self)
        other._detections = [
            dataclasses.replace(part, areas=part.masks.areas().astype(float))
            for part in other._detections
            if part.masks is not None
        ]
        return other

    def by_keypoints(self, sigmas: Float[np.ndarray, " k"]) -> Self:
        """An evaluator of the same objects and detections by keypoints, which all must have.

        As of a result file without boxes, the area of a detection is that of the box around its
        joints.

        Args:
            sigmas: Of each joint.
        """
        other = type(self)(self.categories, "keypoints", sigmas)
        other.merge(self)
        other._objects = [
            part
            if part.num_keypoints is None
            else dataclasses.replace(part, ignored=part.ignored | (part.num_keypoints == 0))
            for part in other._objects
        ]
        other._detections = [
            dataclasses.replace(part, areas=np.ptp(part.keypoints[..., :2], axis=1).prod(axis=-1))
            for part in other._detections
            if part.keypoints is not None
        ]
        return other

    def rows(self) -> tuple[ObjectRows, DetectionRows]:
        """As `Collected.rows`, with the known categories only."""
        known = np.fromiter(self.categories, np.int64)
        objects, detections = super().rows()
        if not np.isin(detections.categories, known).all():
            detections = take(detections, np.isin(detections.categories, known))
        if not np.isin(objects.categories, known).all():
            objects = take(objects, np.isin(objects.categories, known))
        return objects, detections

    def match(self) -> tuple[ObjectRows, DetectionRows, Matched]:
        """All objects and detections, and which of them match."""
        objects, detections = self.rows()
        most = self.max_detections[-1]
        matched = match_detections(objects, detections, self.overlap, self.settings, most)
        return objects, detections, matched

    def curves(self, matches: tuple[ObjectRows, DetectionRows, Matched] | None = None) -> Curves:
        """Precision, recall and scores, equal to those of pycocotools' ``COCOeval.eval``.

        Args:
            matches: What `match` returned; computed if None.
        """
        objects, detections, matched = matches or self.match()
        ids = np.fromiter(self.categories, np.int64)
        return accumulate(objects, detections, matched, ids, self.settings, self.max_detections)

    def compute(
        self, matches: tuple[ObjectRows, DetectionRows, Matched] | None = None
    ) -> dict[str, object]:
        """Figures by name, each 0 to 1, or -1 where there is nothing to average.

        ``AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl`` (keypoints: ``AP AP50 AP75 APm APl
        AR AR50 AR75 ARm ARl``), those of `also_with`, and ``per_category``: the same of each
        category by its name, and ``AP_by_iou``, its AP at each threshold.

        Args:
            matches: What `match` returned; computed if None.
        """
        curves = self.curves(matches)
        every = slice(None)
        figures: dict[str, object] = {
            line.key: self._mean(curves, line, every) for line in self.lines
        }
        per_category = {}
        for i, name in enumerate(unique_names(self.categories)):
            one = slice(i, i + 1)
            by_iou = [Line("AP", "precision", t, most=self.official_max) for t in THRESHOLDS]
            per_category[name] = {
                **{line.key: self._mean(curves, line, one) for line in self.lines},
                "AP_by_iou": {
                    f"{line.threshold:.2f}": self._mean(curves, line, one) for line in by_iou
                },
            }
        return {**figures, "per_category": per_category}

    def _mean(self, curves: Curves, line: Line, categories: slice) -> float:
        m, a = self.max_detections.index(line.most), self.areas.index(line.area)
        values = getattr(curves, line.of)[..., categories, a, m]
        if line.threshold is not None:
            values = values[THRESHOLDS.index(line.threshold)]
        present = values[values > -1]
        return float(np.mean(present)) if len(present) else -1.0

    def summary(self, figures: Mapping[str, object]) -> list[str]:
        """The lines that pycocotools' ``summarize`` prints, from the figures of `compute`."""
        text = []
        for line in self.lines:
            kind = "Precision  (AP)" if line.of == "precision" else "Recall     (AR)"
            iou = "0.50:0.95" if line.threshold is None else f"{line.threshold:.2f}"
            text.append(
                f" Average {kind} @[ IoU={iou:<9} | area={line.area:>6} |"
                f" maxDets={line.most:>3} ] = {figures[line.key]:0.3f}"
            )
        return text


def unique_names(categories: Mapping[int, str]) -> list[str]:
    """Names of the categories in order; the id is added to a name that several categories have."""
    names = list(categories.values())
    while len(set(names)) < len(names):
        shared = Counter(names)
        names = [
            name if shared[name] == 1 else f"{name} ({i})"
            for i, name in zip(categories, names, strict=True)
        ]
    return names
