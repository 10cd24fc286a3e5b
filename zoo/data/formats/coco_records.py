"""The records of COCO's and LVIS's annotation files, as msgspec reads them."""

from typing import Any, Literal

import msgspec

from zoo.data.formats.json_file import Flag, ImageId, Int64

Rules = Literal["training", "coco", "lvis"]
MaskForm = Literal["none", "encoded", "decoded"]

CategoryId = Int64 | str


class Image(msgspec.Struct):
    """An entry of ``images``."""

    id: ImageId
    file_name: str | None = None
    height: Int64 = 0
    width: Int64 = 0


class SizedImage(msgspec.Struct):
    """An entry of ``images`` that can be trained on."""

    id: ImageId
    file_name: str
    height: Int64
    width: Int64


class LvisImage(Image):
    """An image with LVIS's fields."""

    neg_category_ids: list[Int64] = []
    not_exhaustive_category_ids: list[Int64] = []


class Category(msgspec.Struct):
    """An entry of ``categories``."""

    id: CategoryId
    name: str


class LvisCategory(Category):
    """A category with LVIS's field `frequency`: r, c or f."""

    id: Int64
    frequency: str = ""


class PoseCategory(Category):
    """A category with the names of its joints; `skeleton` counts them from 1."""

    keypoints: list[str] = []
    skeleton: list[tuple[int, int]] = []


class RunLengths(msgspec.Struct, gc=False):
    """A mask as COCO writes it: `size` is height and width; `counts` plain or compressed."""

    size: tuple[Int64, Int64]
    counts: str | list[Int64]


Segmentation = RunLengths | list[list[float]]  # run lengths, or polygons x, y, x, y, ...

SEGMENTATION = msgspec.json.Decoder(Segmentation, strict=False)

_IMAGES = {"training": SizedImage, "coco": Image, "lvis": LvisImage}
_CATEGORIES = {"training": Category, "coco": Category, "lvis": LvisCategory}


def file_type(rules: Rules, masks: MaskForm, keypoints: bool, raw: Any) -> type[msgspec.Struct]:
    """Type of the contents that a file must have for these options; encoded masks are `raw`."""
    label = Int64 if rules == "lvis" else CategoryId
    fields: list[Any] = [("image_id", ImageId), ("category_id", label), ("iscrowd", Flag, 0)]
    if rules == "training":
        fields += [("id", int | str | None, None), ("area", float | None, None)]
    else:
        fields += [("id", Int64), ("area", float)]
    if rules == "lvis":
        fields.append(("ignore", Flag, 0))
    if masks == "decoded":
        fields += [("segmentation", Segmentation), ("bbox", tuple[float, ...], (0.0,) * 4)]
    else:
        fields.append(("bbox", tuple[float, ...]))
    if masks == "encoded":
        fields.append(("segmentation", raw))
    if keypoints:
        fields.append(("keypoints", list[float]))
        fields.append(
            ("num_keypoints", Int64 | None, None)
            if rules == "training"
            else ("num_keypoints", Int64 | None)
        )
    annotation = msgspec.defstruct("Annotation", fields, kw_only=True, gc=False)
    category = PoseCategory if keypoints and rules == "training" else _CATEGORIES[rules]
    lists = {"images": _IMAGES[rules], "categories": category, "annotations": annotation}
    return msgspec.defstruct("File", [(name, list[record]) for name, record in lists.items()])
