"""Drawn data for any registered model: a run's settings, and a batch as its loader gives it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import zoo
from train.config import Config, ConfigError, ModelConfig, model_field_names
from train.optim import OptimConfig
from train.tasks.classification import Classification
from train.tasks.detection import Detection
from train.tasks.mae import MaskedAutoencoding
from train.tasks.segmentation import Segmentation
from train.tasks.translation import Translation
from zoo.data import ClassificationData, DetectionData, SegmentationData, TranslationData
from zoo.models.detr import Detr
from zoo.models.mae import MAE
from zoo.models.mlp_mixer import MlpMixer
from zoo.models.resnet import ResNet
from zoo.models.transformer import Transformer
from zoo.models.unet import BackboneUNet, UNet
from zoo.models.vit import ViT
from zoo.registry import MODELS

Size = tuple[int, int]

TOKENS = 64  # of a source, and of a target
_TEXT = (TOKENS * 16, 16)  # an image that is about as much work as a text: a patch a token
_OBJECTS = (100, 7)  # targets that an image of detection has room for, and has: as COCO's


def _classification(size: Size, model: Any) -> tuple[Any, Any]:
    return ClassificationData(image_size=size), Classification()


def _reconstruction(size: Size, model: Any) -> tuple[Any, Any]:
    return ClassificationData(image_size=size), MaskedAutoencoding()


def _detection(size: Size, model: Any) -> tuple[Any, Any]:
    data = DetectionData(buckets=(size,), max_objects=_OBJECTS[0], masks=model.masks)
    return data, Detection()


def _segmentation(size: Size, model: Any) -> tuple[Any, Any]:
    return SegmentationData(image_size=size), Segmentation()


def _translation(size: Size, model: Any) -> tuple[Any, Any]:
    return TranslationData(), Translation()


# The data and the task, for images of a size, that the models of a class are trained with.
FAMILIES: dict[type, Callable[[Size, Any], tuple[Any, Any]]] = {
    ViT: _classification,
    MlpMixer: _classification,
    ResNet: _classification,
    MAE: _reconstruction,
    Detr: _detection,
    UNet: _segmentation,
    BackboneUNet: _segmentation,
    Transformer: _translation,
}


def synthetic_config(
    name: str, image_size: Size | None, batch_size: int | None, pixels: int
) -> Config:
    """Settings of a run of a model on drawn data.

    Args:
        name: A registered model's.
        image_size: Height and width; None is what the model is for.
        batch_size: Examples of a batch; None is about as many, a power of two, as have `pixels`.
        pixels: Of a batch.

    Raises:
        ConfigError: If the model takes no images, but a size of them is given.
    """
    model, preprocessing = zoo.create(name), MODELS[name].preprocessing
    if preprocessing is None and image_size is not None:
        raise ConfigError(f"--image_size: {name} takes no images")
    size = image_size or (preprocessing.size if preprocessing else _TEXT)
    data, task = FAMILIES[type(model)](size, model)
    fields = {"image_size": size} if "image_size" in model_field_names(name) else {}
    return Config(
        recipe="speed",
        model=ModelConfig(name, fields),
        data=data,
        task=task,
        optim=OptimConfig(learning_rate=1e-6, schedule="constant"),  # stays where it is
        steps=1,
        batch_size=batch_size or 2 ** max(math.floor(math.log2(pixels / math.prod(size))), 0),
    )


def draw_batch(config: Config, model: Any) -> dict[str, np.ndarray]:
    """A batch of examples as the settings' loader would give it, without its bookkeeping."""
    rng, b, data = np.random.default_rng(0), config.batch_size, config.data
    if isinstance(data, TranslationData):
        return _draw_pairs(rng, b, model.vocab_size)
    if isinstance(data, DetectionData):
        return _draw_scenes(rng, b, data, model.num_classes)
    batch = {"image": _draw_images(rng, b, data.image_size), "valid": np.ones(b, bool)}
    if isinstance(data, SegmentationData):
        labels = rng.integers(model.num_classes, size=(b, *data.image_size))
        return {**batch, "label_map": labels.astype(np.uint8)}
    classes = getattr(model, "num_classes", 1)
    return {**batch, "label": rng.integers(classes, size=b).astype(np.int32)}


def _draw_images(rng: np.random.Generator, b: int, size: Size) -> np.ndarray:
    return rng.integers(256, size=(b, *size, 3)).astype(np.uint8)


def _draw_pairs(rng: np.random.Generator, b: int, vocab_size: int) -> dict[str, np.ndarray]:
    """Bundles of one pair each, as long as there is room."""

    def draw() -> np.ndarray:
        return rng.integers(vocab_size, size=(b, 1, TOKENS)).astype(np.int32)

    lengths = np.full((b, 1), TOKENS, np.int32)
    return {
        "index": np.arange(b, dtype=np.int32)[:, None],
        "sources": draw(),
        "inputs": draw(),
        "targets": draw(),
        "source_length": lengths,
        "target_length": lengths,
        "valid": np.ones(b, bool),
    }


def _draw_scenes(
    rng: np.random.Generator, b: int, data: DetectionData, num_classes: int
) -> dict[str, np.ndarray]:
    """Images that fill their bucket, each with a few boxes, and masks that fill the boxes."""
    (size,), (m, count) = data.buckets, (data.max_objects, min(_OBJECTS[1], data.max_objects))
    height, width = size
    corners = np.sort(rng.uniform(0, (width, height), size=(b, m, 2, 2)), axis=2)
    there = np.broadcast_to(np.arange(m) < count, (b, m))
    batch = {
        "image": _draw_images(rng, b, size),
        "size": np.tile(np.array(size, np.int32), (b, 1)),
        "boxes": np.where(there[..., None], corners.reshape(b, m, 4), 0).astype(np.float32),
        "labels": rng.integers(num_classes, size=(b, m)).astype(np.int32),
        "box_valid": there.copy(),
        "valid": np.ones(b, bool),
    }
    if data.masks:
        x, y = np.arange(width), np.arange(height)[:, None]
        left, top, right, bottom = batch["boxes"].transpose(2, 0, 1)[..., None, None]
        batch["masks"] = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return batch
