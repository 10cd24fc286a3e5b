"""Predictions: of batches by task, of large images by windows, of one image by `predict`."""

from zoo.predict.image import (
    DetectionPrediction,
    PanopticPrediction,
    SegmentationPrediction,
    predict,
)
from zoo.predict.outputs import (
    ClassPredictions,
    Detections,
    PixelPredictions,
    predict_classes,
    predict_detections,
    predict_pixels,
    reconstruct,
)
from zoo.predict.tiled import make_tiling, predict_tiled

__all__ = [
    "ClassPredictions",
    "DetectionPrediction",
    "Detections",
    "PanopticPrediction",
    "PixelPredictions",
    "SegmentationPrediction",
    "make_tiling",
    "predict",
    "predict_classes",
    "predict_detections",
    "predict_pixels",
    "predict_tiled",
    "reconstruct",
]
