"""COCO and data in its form, as region detectors are trained on them."""

import dataclasses

from zoo.data import DetectionData
from zoo.types import IMAGENET_MEAN, IMAGENET_STD

# Six short sides and mirroring, as in detectron2; a batch is padded to one of these four shapes.
COCO_REGIONS = DetectionData(
    source="coco:coco",
    train_split="train2017",
    eval_split="val2017",
    buckets=((800, 1088), (1088, 800), (800, 1344), (1344, 800)),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    max_objects=100,
    short_sides=tuple(range(640, 801, 32)),
    long_side=1333,
    flip=True,
)

# Your own COCO json; the checkpoint that training starts from decides mean and std.
OWN_REGIONS = dataclasses.replace(
    COCO_REGIONS, source="coco:data", train_split="train", eval_split="val", mean=None, std=None
)
