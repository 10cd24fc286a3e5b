"""Digit scenes with the proposals of selective search."""

from zoo.data import DetectionData
from zoo.data.digit_scenes import SEARCH

PROPOSED_SCENES = DetectionData(
    train_split="train[:4000]", proposals="selective_search", search=SEARCH, threads=2
)
