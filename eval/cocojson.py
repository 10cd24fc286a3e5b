"""COCO's annotation and result files, and LVIS's, as columns.

Whatever cannot be right is an `FileError` of one line that names the first records concerned.
What the official tool passes over in silence is counted in `warnings`.
"""

import dataclasses
import itertools
import json
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import numpy as np

from eval.coco import IouType
from eval.records import Detections, Objects

if TYPE_CHECKING:
    from zoo.ops.rle import Masks

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_SHOWN = 3  # offending records that a message lists


class FileError(ValueError):
    """A file that cannot be evaluated; the message is one line."""


class Image(msgspec.Struct):
    """An entry of ``images``; the last two fields are LVIS's."""

    id: int | float | str
    file_name: str | None = None
    height: Int64 = 0
    width: Int64 = 0
    neg_category_ids: list[Int64] = []
    not_exhaustive_category_ids: list[Int64] = []


class Category(msgspec.Struct):
    """An entry of ``categories``; `frequency` is LVIS's: r, c or f."""

    id: Int64
    name: str
    frequency: str = ""


class RunLengths(msgspec.Struct, gc=False):
    """A mask as COCO writes it: `size` is height and width; `counts` plain or compressed."""

    size: tuple[Int64, Int64]
    counts: str | list[Int64]


class _Annotation(msgspec.Struct, kw_only=True, gc=False):
    id: Int64
    image_id: int | float | str
    category_id: Int64
    area: float
    iscrowd: Int64 | bool = 0
    ignore: Int64 | bool = 0


class _BoxAnnotation(_Annotation, kw_only=True, gc=False):
    bbox: tuple[float, ...]


class _MaskAnnotation(_Annotation, kw_only=True, gc=False):
    segmentation: RunLengths | list[list[float]]
    bbox: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)


class _KeypointAnnotation(_Annotation, kw_only=True, gc=False):
    bbox: tuple[float, ...]
    keypoints: list[float]
    num_keypoints: Int64


class _Result(msgspec.Struct, kw_only=True, gc=False):
    image_id: int | float | str
    category_id: Int64
    score: float
    bbox: tuple[float, ...] = ()


class _FullResult(_Result, kw_only=True, gc=False):
    segmentation: RunLengths | list[list[float]] | None = None
    keypoints: list[float] = []


_ANNOTATIONS = {"bbox": _BoxAnnotation, "segm": _MaskAnnotation, "keypoints": _KeypointAnnotation}


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """An annotation file. Image ids in `objects` are positions in `images`.

    Attributes:
        images: Sorted by id.
        categories: Sorted by id.
        objects: Annotations of known images and categories, in the order of the file.
        annotation_ids: Their ids.
        warnings: What was passed over.
    """

    images: list[Image]
    categories: list[Category]
    objects: Objects
    annotation_ids: np.ndarray
    warnings: list[str]

    @property
    def category_names(self) -> dict[int, str]:
        """Names by id."""
        return {category.id: category.name for category in self.categories}


def check_output(path: Path | None) -> None:
    """Refuses a file to be written, if any, in a folder that does not exist.

    Raises:
        FileError: Names it.
    """
    if path and not path.parent.is_dir():
        raise FileError(f"{path}: no folder {path.parent}")
    if path and path.is_dir():
        raise FileError(f"{path}: is a folder")


T = TypeVar("T")


def decode(path: Path, kind: type[T]) -> T:
    """A json file as objects of `kind`.

    Raises:
        FileError: If the file cannot be read, is not json, or does not fit; says where.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise FileError(f"{path}: {error}") from None
    except msgspec.DecodeError:
        pass  # Python's reader takes NaN and Infinity, so that the record can be named
    try:
        return msgspec.convert(json.loads(data), type=kind)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def refuse_rows(path: Path, name: str, records: Sequence[Any], rows: np.ndarray, what: str) -> None:
    """Raises an `FileError` that lists the first of the offending `rows`, if there are any."""
    if not len(rows):
        return
    shown = []
    for row in rows[:_SHOWN].tolist():
        fields = {
            field: getattr(records[row], field, None)
            for field in ("id", "image_id", "category_id", "score", "bbox")
        }
        text = ", ".join(f"{key} {value}" for key, value in fields.items() if value is not None)
        shown.append(f"{name}[{row}] ({text})")
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    raise FileError(f"{path}: {what}: {'; '.join(shown)}{more}")


def repeated(values: Sequence[int | float | str]) -> np.ndarray:
    """Positions of values that an earlier one equals."""
    seen: set[int | float | str] = set()
    rows = [i for i, value in enumerate(values) if value in seen or seen.add(value)]
    return np.array(rows, int)


def _column(values: Any, count: int, dtype: type = np.int64) -> np.ndarray:
    return np.fromiter(values, dtype, count=count)


def _values(records: Sequence[Any], field: str, dtype: type = np.int64) -> np.ndarray:
    """One field of all records."""
    return _column(map(operator.attrgetter(field), records), len(records), dtype)


def _rectangle(
    rows: Sequence[Sequence[float]], width: int, refuse: Callable[[np.ndarray, str], None]
) -> np.ndarray:
    """Lists of `width` numbers each as an array; refuses others, and those not finite."""
    lengths = _column(map(len, rows), len(rows))
    refuse(np.flatnonzero(lengths != width), f"not {width} numbers")
    flat = np.fromiter(itertools.chain.from_iterable(rows), float, count=len(rows) * width)
    table = flat.reshape(-1, width)
    refuse(np.flatnonzero(~np.isfinite(table).all(axis=1)), "numbers that are not finite")
    return table


def _boxes(
    rows: Sequence[Sequence[float]], refuse: Callable[[np.ndarray, str], None]
) -> np.ndarray:
    boxes = _rectangle(rows, 4, lambda bad, what: refuse(bad, f"bbox: {what}"))
    refuse(np.flatnonzero((boxes[:, 2:] < 0).any(axis=1)), "bbox of negative width or height")
    return boxes


def _sizes(images: list[Image], image: np.ndarray) -> np.ndarray:
    """Height and width of the image of each record."""
    return np.array([(i.height, i.width) for i in images], int).reshape(-1, 2)[image]


def _masks(
    segmentations: Sequence[Any], sizes: np.ndarray, refuse: Callable[[np.ndarray, str], None]
) -> "Masks":
    from zoo.ops.cocomasks import read_masks  # brings JAX, for which boxes need not wait

    return read_masks(segmentations, sizes, refuse)


def read_ground_truth(path: Path, iou_type: IouType, federated: bool = False) -> GroundTruth:
    """Reads an annotation file.

    Args:
        path: The file.
        iou_type: Decides which fields the annotations must have.
        federated: As LVIS does, ignore what is marked ``ignore`` and know no crowds; COCO's
            evaluation disregards that mark.

    Raises:
        FileError: If the file is not one, has ids twice, or boxes or masks that cannot be.
    """
    record = _ANNOTATIONS[iou_type]
    fields = [
        ("images", list[Image]),
        ("categories", list[Category]),
        ("annotations", list[record]),
    ]
    file: Any = decode(path, msgspec.defstruct("File", fields))
    for name in ("images", "categories", "annotations"):
        records = getattr(file, name)
        refuse_rows(path, name, records, repeated([r.id for r in records]), "id given twice")
    try:
        images = sorted(file.images, key=lambda image: image.id)
    except TypeError:
        raise FileError(f"{path}: some image ids are numbers, some are text") from None
    image = _positions(file.annotations, images)
    rows, warnings = _known(path, "annotation", file.annotations, image, file.categories)
    image = image[rows]
    annotations = [file.annotations[row] for row in rows]

    def refuse(bad: np.ndarray, what: str) -> None:
        refuse_rows(path, "annotations", file.annotations, rows[bad], what)

    areas = _values(annotations, "area", float)
    refuse(np.flatnonzero(~np.isfinite(areas)), "area is not finite")
    crowd = _values(annotations, "iscrowd") != 0
    masks = keypoints = None
    ignored = crowd
    if federated:
        ignored = _values(annotations, "ignore") != 0
        crowd = np.zeros(len(annotations), bool)
    if iou_type == "segm":
        masks = _masks([a.segmentation for a in annotations], _sizes(images, image), refuse)
    if iou_type == "keypoints":
        keypoints = _keypoints([a.keypoints for a in annotations], refuse)
        ignored = crowd | (_values(annotations, "num_keypoints") == 0)
    objects = Objects(
        image,
        _values(annotations, "category_id"),
        _boxes([a.bbox for a in annotations], refuse),
        areas,
        crowd,
        ignored,
        masks,
        keypoints,
    )
    categories = sorted(file.categories, key=lambda category: category.id)
    return GroundTruth(images, categories, objects, _values(annotations, "id"), warnings)


def _positions(records: Sequence[Any], images: list[Image]) -> np.ndarray:
    """Position of each record's image, -1 where there is no such image."""
    position = {image.id: i for i, image in enumerate(images)}
    ids = map(operator.attrgetter("image_id"), records)
    return _column(map(position.get, ids, itertools.repeat(-1)), len(records))


def _known(
    path: Path, kind: str, records: Sequence[Any], image: np.ndarray, categories: list[Category]
) -> tuple[np.ndarray, list[str]]:
    """Rows of known image and category, and warnings about the rest."""
    known = np.isin(_values(records, "category_id"), [category.id for category in categories])
    warnings = []
    for bad, what in ((image < 0, "image"), (~known & (image >= 0), "category")):
        if bad.any():
            first = records[np.flatnonzero(bad)[0]]
            warnings.append(
                f"{path}: ignored {bad.sum()} {kind}s of unknown {what},"
                f" first {what}_id {getattr(first, f'{what}_id')}"
            )
    return np.flatnonzero((image >= 0) & known), warnings


def _keypoints(
    rows: Sequence[Sequence[float]], refuse: Callable[[np.ndarray, str], None]
) -> np.ndarray:
    width = len(rows[0]) if rows else 3
    table = _rectangle(rows, width, lambda bad, what: refuse(bad, f"keypoints: {what}"))
    refuse(np.arange(min(width % 3, 1)), "keypoints: not triples of x, y and visibility")
    return table.reshape(len(rows), width // 3, 3)


def read_results(path: Path, truth: GroundTruth, iou_type: IouType) -> tuple[Detections, list[str]]:
    """Reads a result file; also returns warnings about what was passed over.

    As in pycocotools, the first record decides where areas come from: its ``bbox`` if it has one,
    else its ``segmentation``, else the extent of its ``keypoints``.

    Raises:
        FileError: If the file is not one, is about images that `truth` does not have, or has
            boxes, masks, keypoints or scores that cannot be.
    """
    results: Sequence[Any] = decode(
        path, list[_Result] if iou_type == "bbox" else list[_FullResult]
    )
    if iou_type == "bbox" and results and not results[0].bbox:
        results = decode(path, list[_FullResult])
    image = _positions(results, truth.images)
    stray = np.flatnonzero(image < 0)
    refuse_rows(path, "results", results, stray, "image_id is not in the annotations")
    rows, warnings = _known(path, "result", results, image, truth.categories)
    image = image[rows]
    kept = results if len(rows) == len(results) else [results[row] for row in rows]

    def refuse(bad: np.ndarray, what: str) -> None:
        refuse_rows(path, "results", results, rows[bad], what)

    scores = _values(kept, "score", float)
    refuse(np.flatnonzero(~np.isfinite(scores)), "score is not finite")
    shape = _result_shapes(results, kept, truth, image, iou_type, refuse)
    if iou_type == "segm" and shape[2] is not None:
        sizes = _sizes(truth.images, image)
        other = (sizes > 0).all(axis=1) & (shape[2].sizes != sizes).any(axis=1)
        if other.any():
            first = np.flatnonzero(other)[0]
            warnings.append(
                f"{path}: {other.sum()} masks of another size than their image match nothing,"
                f" first results[{rows[first]}]: {shape[2].sizes[first].tolist()},"
                f" image {sizes[first].tolist()}"
            )
    return Detections(image, _values(kept, "category_id"), scores, *shape), warnings


def _result_shapes(
    results: Sequence[Any],
    kept: Sequence[Any],
    truth: GroundTruth,
    image: np.ndarray,
    iou_type: IouType,
    refuse: Callable[[np.ndarray, str], None],
) -> tuple[np.ndarray, np.ndarray, "Masks | None", np.ndarray | None]:
    """Boxes, areas, masks and keypoints of results."""
    masks = keypoints = None
    by_box = not results or bool(results[0].bbox)
    by_mask = not by_box and results[0].segmentation is not None
    if iou_type == "segm" or by_mask:
        shapes = [
            _box_polygon(r) if by_box and not r.segmentation else r.segmentation for r in kept
        ]
        masks = _masks(shapes, _sizes(truth.images, image), refuse)
    if iou_type == "keypoints" or not (by_box or by_mask):
        keypoints = _keypoints([r.keypoints for r in kept], refuse)
        if truth.objects.keypoints is not None and len(kept) and len(truth.objects):
            joints = truth.objects.keypoints.shape[1]
            different = keypoints.shape[1] != joints
            refuse(np.arange(int(different)), f"keypoints: not {joints} joints as annotated")
    if by_box:
        boxes = _boxes([r.bbox for r in kept], refuse)
    elif by_mask and masks is not None:
        boxes = masks.boxes_xywh()
        return boxes, masks.areas().astype(float), masks, keypoints
    else:
        points = np.zeros((len(kept), 1, 2)) if keypoints is None else keypoints[..., :2]
        low, high = points.min(axis=1), points.max(axis=1)
        boxes = np.concatenate([low, high - low], axis=-1)
    return boxes, boxes[:, 2] * boxes[:, 3], masks, keypoints


def _box_polygon(result: _Result) -> list[list[float]]:
    x, y, width, height = result.bbox
    right, bottom = x + width, y + height
    return [[x, y, x, bottom, right, bottom, right, y]]
