"""Digit scenes with the proposals of selective search."""

from zoo.data import DetectionData
from zoo.types import SCENE_SEARCH

PROPOSED_SCENES = DetectionData(
    train_split="train[:4000]", proposals="selective_search", search=SCENE_SEARCH, threads=2
)
