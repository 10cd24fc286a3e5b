"""COCO's panoptic annotation files."""

import msgspec


class Category(msgspec.Struct):
    """An entry of ``categories``."""

    id: int
    name: str
    isthing: int


class SegmentInfo(msgspec.Struct):
    """An entry of ``segments_info``; predictions have neither `iscrowd` nor `area`."""

    id: int
    category_id: int
    iscrowd: int = 0
    area: int | None = None


class Annotation(msgspec.Struct):
    """An image: its file of segment ids and what they are."""

    image_id: int | str
    file_name: str
    segments_info: list[SegmentInfo]


class PanopticFile(msgspec.Struct):
    """A panoptic annotation or result file; results need no categories."""

    annotations: list[Annotation]
    categories: list[Category] = []
