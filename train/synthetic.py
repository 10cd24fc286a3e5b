"""Random data for any registered model: the settings of a run, and a batch like its loader's."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

import zoo
from train.config import Config, ConfigError, ModelConfig, model_field_names
from train.optim import OptimConfig
from train.tasks.registry import TASKS
from zoo.data import ClassificationData, DetectionData, SegmentationData, TranslationData
from zoo.registry import family_named, family_of, variant_named

Size = tuple[int, int]

TOKENS = 64  # length of each source and of each target
_TEXT = (TOKENS * 16, 16)  # size of an image with one 16 x 16 patch per token: similar cost
_OBJECTS = (100, 7)  # targets of an image for detection: with padding, and real ones; as in COCO


def _data(task: str, size: Size, model: Any) -> Any:
    """The data settings of a task, for a model and images of the given height and width."""
    match task:
        case "detection":
            room = min(_OBJECTS[0], getattr(model, "num_queries", _OBJECTS[0]))
            learns = family_of(model).learns(model)
            return DetectionData(
                "coco:drawn",
                buckets=(size,),
                max_objects=room,
                masks="masks" in learns,
                keypoints="keypoints" in learns,
            )
        case "segmentation":
            return SegmentationData(image_size=size)
        case "text":
            return TranslationData()
    return ClassificationData(image_size=size)


def synthetic_config(
    name: str, image_size: Size | None, batch_size: int | None, pixels: int
) -> Config:
    """The settings of a run of a model on random data.

    Args:
        name: Name of a registered model.
        image_size: Height and width; None is the size that the model is made for.
        batch_size: Examples in a batch; None is the largest power of two whose images have at most
            `pixels` pixels together, and at least 1.
        pixels: Pixels of a batch, used if `batch_size` is None.

    Raises:
        ConfigError: If an image size is given, but the model takes no images.
    """
    family, preprocessing = family_named(name), variant_named(name).preprocessing
    if preprocessing is None and image_size is not None:
        raise ConfigError(f"--image_size: {name} takes no images")
    size = image_size or (preprocessing.size if preprocessing else _TEXT)
    task = TASKS[family.task]
    side = size[0] if size[0] == size[1] else size  # some models take a single number
    fields = {"image_size": side} if "image_size" in model_field_names(name) else {}
    return Config(
        recipe="speed",
        model=ModelConfig(name, fields),
        data=_data(family.task, size, zoo.create(name)),
        task=task(loss=family.loss()) if family.loss else task(),
        optim=OptimConfig(learning_rate=1e-6, schedule="constant"),  # barely changes the parameters
        steps=1,
        batch_size=batch_size or 2 ** max(math.floor(math.log2(pixels / math.prod(size))), 0),
    )


def draw_batch(config: Config, model: Any) -> dict[str, np.ndarray]:
    """A batch with the arrays that the loader of `config` gives and that a step needs."""
    rng, b, data = np.random.default_rng(0), config.batch_size, config.data
    if isinstance(data, TranslationData):
        return _draw_pairs(rng, b, model.vocab_size)
    if isinstance(data, DetectionData):
        return _draw_scenes(rng, b, data, model)
    batch = {"image": _draw_images(rng, b, data.image_size), "valid": np.ones(b, bool)}
    if isinstance(data, SegmentationData):
        labels = rng.integers(model.num_classes, size=(b, *data.image_size))
        return {**batch, "label_map": labels.astype(np.uint8)}
    classes = getattr(model, "num_classes", 1)
    return {**batch, "label": rng.integers(classes, size=b).astype(np.int32)}


def _draw_images(rng: np.random.Generator, b: int, size: Size) -> UInt8[np.ndarray, "b h w 3"]:
    return rng.integers(256, size=(b, *size, 3)).astype(np.uint8)


def _draw_pairs(rng: np.random.Generator, b: int, vocab_size: int) -> dict[str, np.ndarray]:
    """Bundles of one pair each; every source and target has the full `TOKENS` tokens."""

    def draw() -> Int32[np.ndarray, "b 1 t"]:
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
    rng: np.random.Generator, b: int, data: DetectionData, model: Any
) -> dict[str, np.ndarray]:
    """Images as large as their bucket, each with a few boxes.

    Masks fill the boxes; the joints are anywhere in them, and all are visible.
    """
    (size,), (m, count) = data.buckets, (data.max_objects, min(_OBJECTS[1], data.max_objects))
    height, width = size
    corners = np.sort(rng.uniform(0, (width, height), size=(b, m, 2, 2)), axis=2)
    there = np.broadcast_to(np.arange(m) < count, (b, m))
    batch = {
        "image": _draw_images(rng, b, size),
        "size": np.tile(np.array(size, np.int32), (b, 1)),
        "boxes": np.where(there[..., None], corners.reshape(b, m, 4), 0).astype(np.float32),
        "labels": rng.integers(model.num_classes, size=(b, m)).astype(np.int32),
        "box_valid": there.copy(),
        "valid": np.ones(b, bool),
    }
    if data.masks:
        x, y = np.arange(width), np.arange(height)[:, None]
        left, top, right, bottom = batch["boxes"].transpose(2, 0, 1)[..., None, None]
        batch["masks"] = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if data.keypoints:
        left_top, right_bottom = np.split(batch["boxes"][:, :, None], 2, axis=-1)
        places = rng.uniform(left_top, right_bottom, size=(b, m, model.num_keypoints, 2))
        seen = np.full((b, m, model.num_keypoints, 1), 2.0)
        batch["keypoints"] = np.concatenate([places, seen], axis=-1).astype(np.float32)
    return batch
