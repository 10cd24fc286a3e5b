"""`zoo.predict`: what a model says of one image, with a picture of it."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image, ImageOps

from zoo.data.decode import decode_image
from zoo.data.joint import fit_size
from zoo.data.transforms import normalize, resize, resize_and_crop, valid_pixels
from zoo.loading import describe
from zoo.ops.instance_masks import full_size_masks
from zoo.ops.palette import draw_objects, draw_segments, overlay
from zoo.ops.panoptic import merge_masks
from zoo.predict.outputs import (
    ClassPredictions,
    Detections,
    PixelPredictions,
    predict_classes,
    predict_detections,
    predict_pixels,
)
from zoo.predict.tiled import make_tiling, predict_tiled
from zoo.registry import preprocessing as preprocessing_of
from zoo.types import InputError, Preprocessing

HostImage = UInt8[np.ndarray, "h w 3"]


class DetectionPrediction(struct.PyTreeNode):
    """What `predict` gives for a detector, the likeliest object first.

    Attributes:
        boxes: ``xyxy`` in pixels of the image.
        scores: Probabilities of the likeliest class; most queries of DETR have found nothing, and
            have low ones.
        labels: Numbers of the likeliest class.
        overlay: The image with the boxes of a score of at least 0.5 on it, their classes and
            scores, and their masks; small images enlarged.
        masks: The pixels of each object; None if the model has no masks.
    """

    boxes: Float[np.ndarray, "q 4"]
    scores: Float[np.ndarray, " q"]
    labels: Int[np.ndarray, " q"]
    overlay: UInt8[np.ndarray, "rows columns 3"]
    masks: Bool[np.ndarray, "q h w"] | None = None


class PanopticPrediction(struct.PyTreeNode):
    """What `predict` gives for a detector with masks when it is told which classes are things.

    Attributes:
        ids: Number of each pixel's segment: 1 for the first of `labels`, and so on; 0 everywhere if
            nothing was found.
        labels: Number of each segment's class.
        scores: Probability of that class.
        overlay: The image with the segments, their classes and scores on it; small images enlarged.
    """

    ids: Int[np.ndarray, "h w"]
    labels: Int[np.ndarray, " s"]
    scores: Float[np.ndarray, " s"]
    overlay: UInt8[np.ndarray, "rows columns 3"]


class SegmentationPrediction(struct.PyTreeNode):
    """What `predict` gives for a model of pixels, at the image's own size.

    Attributes:
        labels: Number of the likeliest class of each pixel.
        scores: Its probability.
        overlay: The image under the colours of its labels; the first class is see-through.
    """

    labels: UInt8[np.ndarray, "h w"]
    scores: Float[np.ndarray, "h w"]
    overlay: HostImage


def predict(
    model: nn.Module,
    variables: Mapping[str, Any],
    image: str | Path | Image.Image | HostImage,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    things: Collection[int] | None = None,
) -> ClassPredictions | DetectionPrediction | PanopticPrediction | SegmentationPrediction:
    """What a model says of one image.

    >>> from zoo import create
    >>> model = create("mixer_nano_patch4_32", num_layers=1, num_classes=10)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> found = predict(model, variables, np.zeros((48, 64, 3), np.uint8))
    >>> found.classes.shape, found.scores.shape
    ((1, 5), (1, 5))

    Args:
        model: A classifier: the result has its five likeliest classes, a batch of one. Or a DETR:
            the result has the objects that it finds. Or a U-Net: the result has the class of each
            pixel, of images of any size.
        variables: Its variables, as `zoo.load` gives them.
        image: A file, a PIL image, or an array of bytes.
        preprocessing: How the model wants its images; that of the registered model that is nearest
            to it, if absent. `zoo.preprocessing(DIR)` is that of a training run.
        class_names: What a detector's picture calls the classes; `zoo.class_names(DIR)` are those
            of a training run. Numbers, if absent.
        things: The classes that are things, of a DETR with masks; the others are stuff. Its masks
            are then merged into one map of segments. ``range(91)`` for the published weights of
            `detr_resnet50_panoptic`.

    Raises:
        InputError: If the image cannot be read, `predict` does not know the kind of model, or
            `things` are given for a model that has no masks of objects.
    """
    family = type(model).__name__
    if family not in _PREDICT:
        raise InputError(f"predict knows no {family}; it knows {', '.join(sorted(_PREDICT))}")
    if things is not None and not getattr(model, "masks", False):
        raise InputError(f"things are for a detector with masks; this {family} has none")
    how = preprocessing or preprocessing_of(describe(model)[0])
    options = {"class_names": class_names, "things": things} if family == "Detr" else {}
    return _PREDICT[family](model, variables, _pixels(image), how, **options)


def _pixels(image: str | Path | Image.Image | HostImage) -> HostImage:
    if isinstance(image, str | Path):
        try:
            return decode_image(Path(image).expanduser().read_bytes(), str(image))
        except OSError as error:
            raise InputError(f"{image}: cannot be read: {error.strerror}") from error
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise InputError(f"an image is uint8 [h w 3], this array {image.dtype} {list(image.shape)}")
    return image


@partial(jax.jit, static_argnums=(0, 3))
def _apply(
    model: nn.Module, variables: Mapping[str, Any], images: Array, how: Preprocessing
) -> Array:
    return jnp.asarray(model.apply(variables, normalize(images, how.mean, how.std)))


def _classify(
    model: Any, variables: Mapping[str, Any], image: HostImage, how: Preprocessing
) -> ClassPredictions:
    size = getattr(model, "image_size", how.size)
    size = (size, size) if isinstance(size, int) else size
    image = resize_and_crop(image, size, how.crop_fraction, how.interpolation)
    return predict_classes(_apply(model, variables, image[None], how))


class _Found(NamedTuple):
    """What a detector finds in one image, and the sizes that its masks pass through."""

    boxes: Float[np.ndarray, "q 4"]
    scores: Float[np.ndarray, " q"]
    labels: Int[np.ndarray, " q"]
    masks: Float[np.ndarray, "q rows columns"] | None
    sizes: tuple[tuple[int, int], ...]  # of the padded input, the image in it, the image


def _detect(
    model: Any,
    variables: Mapping[str, Any],
    image: HostImage,
    how: Preprocessing,
    *,
    class_names: Sequence[str],
    things: Collection[int] | None,
) -> DetectionPrediction | PanopticPrediction:
    height, width, _ = image.shape
    size = fit_size((height, width), min(how.size), max(how.size))
    rows, columns = [-(-side // 32) * 32 for side in size]  # so that fewer sizes are compiled
    padded = np.zeros((1, rows, columns, 3), np.uint8)
    padded[0, : size[0], : size[1]] = resize(image, size, how.interpolation)
    both = np.array([size, (height, width)], np.int32)[:, None]
    batch = jax.device_get(_find(model, variables, padded, *both, how))
    masks = None if batch.masks is None else batch.masks[0]
    sizes = (rows, columns), size, (height, width)
    found = _Found(batch.boxes[0], batch.scores[0], batch.labels[0], masks, sizes)
    if things is None:
        return _objects(image, found, class_names)
    return _segments(image, found, class_names, things)


def _objects(image: HostImage, found: _Found, class_names: Sequence[str]) -> DetectionPrediction:
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores, labels = found.boxes[order], found.scores[order], found.labels[order]
    masks = None if found.masks is None else full_size_masks(found.masks[order], *found.sizes)
    shown = scores >= 0.5
    drawn = draw_objects(
        image,
        boxes[shown],
        labels[shown],
        _texts(labels[shown], scores[shown], class_names),
        None if masks is None else masks[shown],
    )
    return DetectionPrediction(boxes, scores, labels, drawn, masks)


def _segments(
    image: HostImage, found: _Found, class_names: Sequence[str], things: Collection[int]
) -> PanopticPrediction:
    assert found.masks is not None  # `predict` has seen that the model has masks
    ids, labels, scores = merge_masks(found.masks, found.labels, found.scores, things, *found.sizes)
    drawn = draw_segments(image, ids, labels, _texts(labels, scores, class_names))
    return PanopticPrediction(ids, labels, scores, drawn)


def _texts(labels: np.ndarray, scores: np.ndarray, class_names: Sequence[str]) -> list[str]:
    return [
        f"{class_names[label] if label < len(class_names) else label} {score:.2f}"
        for label, score in zip(labels, scores, strict=True)
    ]


@partial(jax.jit, static_argnums=(0, 5))
def _find(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: Array,
    sizes: Array,
    original_sizes: Array,
    how: Preprocessing,
) -> Detections:
    valid = valid_pixels(sizes, (images.shape[1], images.shape[2]))
    output: Any = model.apply(variables, normalize(images, how.mean, how.std), valid)
    return predict_detections(output, original_sizes)


def _segment(
    model: Any, variables: Mapping[str, Any], image: HostImage, how: Preprocessing
) -> SegmentationPrediction:
    # A small image in one window that is not much larger.
    size = (min(how.size[0], image.shape[0]), min(how.size[1], image.shape[1]))
    tiling = make_tiling(model, size if not model.margin else how.size)

    def of_windows(windows: np.ndarray) -> PixelPredictions:
        return predict_pixels(_apply(model, variables, windows, how))

    (found,) = predict_tiled(of_windows, [image], tiling, 1)
    labels, scores = np.asarray(found.labels), np.asarray(found.scores)
    return SegmentationPrediction(labels, scores, overlay(image, labels))


_PREDICT = {
    "BackboneUNet": _segment,
    "Detr": _detect,
    "MlpMixer": _classify,
    "ResNet": _classify,
    "UNet": _segment,
    "ViT": _classify,
}
