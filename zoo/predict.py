"""Outputs of models to predictions, by task: once, for training, evaluation and users."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
from zoo.losses.reconstruction import patch_statistics
from zoo.models.detr import DetrOutput
from zoo.ops.boxes import cxcywh_to_xyxy
from zoo.ops.instance_masks import full_size_masks
from zoo.ops.palette import draw_objects, draw_segments, overlay
from zoo.ops.panoptic import merge_masks
from zoo.ops.patches import patchify, unpatchify
from zoo.ops.tiles import Tiling, cut_tiles, join_tiles
from zoo.registry import preprocessing as preprocessing_of
from zoo.types import InputError, Preprocessing

HostImage = UInt8[np.ndarray, "h w 3"]


class ClassPredictions(struct.PyTreeNode):
    """The likeliest classes of images, likeliest first.

    Attributes:
        classes: Numbers of classes.
        scores: Their probabilities, by softmax.
    """

    classes: Int[Array, "b j"]
    scores: Float[Array, "b j"]


def predict_classes(logits: Float[Array, "b k"], top: int = 5) -> ClassPredictions:
    """The `top` likeliest classes, or all if there are fewer; of equal ones the lower first.

    >>> found = predict_classes(jnp.array([[0.0, 2.0, 1.0]]), top=2)
    >>> found.classes.tolist(), [f"{score:.2f}" for score in found.scores[0]]
    ([[1, 2]], ['0.67', '0.24'])
    """
    logits = logits.astype(jnp.float32)
    # By logits: the probabilities of unlikely classes underflow, and would be equal.
    _, classes = jax.lax.top_k(logits, min(top, logits.shape[-1]))
    scores = jnp.take_along_axis(jax.nn.softmax(logits), classes, axis=-1)
    return ClassPredictions(classes, scores)


class Detections(struct.PyTreeNode):
    """Objects found in images, one for each of a model's queries; most have low scores.

    Attributes:
        boxes: ``xyxy`` in pixels; they may reach beyond the image.
        scores: Probabilities of the likeliest class.
        labels: The likeliest class.
        masks: Logits over the padded input, at a coarser stride; None if the model has no masks.
    """

    boxes: Float[Array, "b q 4"]
    scores: Float[Array, "b q"]
    labels: Int[Array, "b q"]
    masks: Float[Array, "b q rows columns"] | None = None


def predict_detections(output: DetrOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The likeliest object of every query, as the reference's ``PostProcess`` has it.

    Args:
        output: What DETR gives.
        sizes: Height and width of the images whose pixels the boxes are to be in.
    """
    probabilities = jax.nn.softmax(output.logits.astype(jnp.float32))[..., :-1]
    scale = jnp.tile(sizes[:, ::-1].astype(jnp.float32), 2)[:, None]  # b 1 4
    return Detections(
        boxes=cxcywh_to_xyxy(output.boxes_cxcywh.astype(jnp.float32)) * scale,
        scores=probabilities.max(axis=-1),
        labels=probabilities.argmax(axis=-1),
        masks=output.masks,
    )


def reconstruct(
    predicted: Float[Array, "b n ppc"],
    visible: Bool[Array, "b n"],
    images: Float[Array, "b h w c"],
    *,
    norm_pix_loss: bool,
    statistics: Literal["patch", "visible"] = "patch",
) -> Float[Array, "b h w c"]:
    """A masked autoencoder's prediction as images, on the scale of the `images` it was given.

    A model that was trained on normalised patches (`norm_pix_loss`) predicts neither a patch's
    brightness nor its contrast. To be seen, they have to come from somewhere: with ``patch`` from
    the original of each patch, which a hidden patch does not show, so that the picture is better
    than what the model knows; with ``visible`` from the visible patches alone, their average.

    Args:
        predicted: The model's patches.
        visible: True for the patches that the model saw.
        images: The normalised images.
        norm_pix_loss: Whether the model predicts normalised patches.
        statistics: Where mean and deviation of the patches come from; used by `norm_pix_loss` only.
    """
    height, width, channels = images.shape[1:]
    patch_size = round((predicted.shape[-1] // channels) ** 0.5)
    if norm_pix_loss:
        mean, deviation = patch_statistics(patchify(images, patch_size))
        if statistics == "visible":
            seen = visible[:, :, None]
            mean = jnp.mean(mean, axis=1, keepdims=True, where=seen)
            deviation = jnp.mean(deviation, axis=1, keepdims=True, where=seen)
        predicted = predicted * deviation + mean
    return unpatchify(predicted, patch_size, (height, width))


class PixelPredictions(struct.PyTreeNode):
    """The likeliest class of each pixel.

    Attributes:
        labels: Numbers of classes; there are at most 255.
        scores: Their probabilities, by softmax.
    """

    labels: UInt8[Array | np.ndarray, "*b h w"]
    scores: Float[Array | np.ndarray, "*b h w"]


def predict_pixels(logits: Float[Array, "b h w k"]) -> PixelPredictions:
    """The likeliest class of each pixel; of equal ones the lower."""
    logits = logits.astype(jnp.float32)
    scores = jnp.exp(logits.max(axis=-1) - jax.nn.logsumexp(logits, axis=-1))
    return PixelPredictions(logits.argmax(axis=-1).astype(jnp.uint8), scores)


def make_tiling(model: Any, size: tuple[int, int], overlap: float = 0.25) -> Tiling:
    """Windows for a model of pixels.

    Args:
        model: A U-Net, with `margin`, `multiple` and `input_side`.
        size: Height and width of a window; sides that the model does not take become longer.
        overlap: Share of a window that neighbours have in common at least. Valid convolutions need
            none: their outputs are as good at the edge.
    """
    height, width = (model.input_side(max(side - 2 * model.margin, 1)) for side in size)
    least = min(height, width) - 2 * model.margin
    common = 0 if model.margin else min(int(overlap * least), least - model.multiple)
    return Tiling((height, width), model.margin, max(common, 0), model.multiple)


def predict_tiled(
    predict: Callable[[UInt8[np.ndarray, "b th tw 3"]], PixelPredictions],
    images: Iterable[HostImage],
    tiling: Tiling,
    batch_size: int,
) -> Iterator[PixelPredictions]:
    """Predictions of images of any sizes, in their order, by overlapping windows.

    Args:
        predict: Takes `batch_size` windows.
        images: One after the other.
        tiling: See `make_tiling`.
        batch_size: Windows at a time, of one image or of several.
    """
    waiting: deque[tuple[int, int, int]] = deque()  # height, width and number of windows
    tiles: list[np.ndarray] = []
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def run(batch: list[np.ndarray]) -> None:
        windows = np.zeros((batch_size, *tiling.size, 3), np.uint8)
        windows[: len(batch)] = batch
        result = jax.device_get(predict(windows))
        found.extend(list(zip(result.labels, result.scores, strict=True))[: len(batch)])

    def finished() -> Iterator[PixelPredictions]:
        while waiting and waiting[0][2] <= len(found):
            height, width, count = waiting.popleft()
            labels, scores = (np.stack(part) for part in zip(*found[:count], strict=True))
            del found[:count]
            yield PixelPredictions(
                join_tiles(labels, tiling, height, width),
                join_tiles(scores, tiling, height, width),
            )

    for image in images:
        cut = cut_tiles(image, tiling)
        waiting.append((image.shape[0], image.shape[1], len(cut)))
        tiles.extend(cut)
        while len(tiles) >= batch_size:
            run(tiles[:batch_size])
            del tiles[:batch_size]
        yield from finished()
    if tiles:
        run(tiles)
    yield from finished()


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
    if family == "Detr":
        return _detect(model, variables, _pixels(image), how, class_names, things)
    return _PREDICT[family](model, variables, _pixels(image), how)


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


def _detect(
    model: Any,
    variables: Mapping[str, Any],
    image: HostImage,
    how: Preprocessing,
    class_names: Sequence[str] = (),
    things: Collection[int] | None = None,
) -> DetectionPrediction | PanopticPrediction:
    size = fit_size(image.shape[:2], min(how.size), max(how.size))
    rows, columns = [-(-side // 32) * 32 for side in size]  # so that fewer sizes are compiled
    padded = np.zeros((1, rows, columns, 3), np.uint8)
    padded[0, : size[0], : size[1]] = resize(image, size, how.interpolation)
    sizes = np.array([size, image.shape[:2]], np.int32)[:, None]
    found = jax.device_get(_find(model, variables, padded, *sizes, how))
    canvas, original_size = (rows, columns), (image.shape[0], image.shape[1])

    def texts(labels: np.ndarray, scores: np.ndarray) -> list[str]:
        return [
            f"{class_names[label] if label < len(class_names) else label} {score:.2f}"
            for label, score in zip(labels, scores, strict=True)
        ]

    boxes, scores, labels = (x[0] for x in (found.boxes, found.scores, found.labels))
    if things is not None:
        ids, labels, scores = merge_masks(
            found.masks[0], labels, scores, things, canvas, size, original_size
        )
        drawn = draw_segments(image, ids, labels, texts(labels, scores))
        return PanopticPrediction(ids, labels, scores, drawn)
    order = np.argsort(-scores, kind="stable")
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    masks = None
    if found.masks is not None:
        masks = full_size_masks(found.masks[0][order], canvas, size, original_size)
    shown = scores >= 0.5
    ink = None if masks is None else masks[shown]
    drawn = draw_objects(
        image, boxes[shown], labels[shown], texts(labels[shown], scores[shown]), ink
    )
    return DetectionPrediction(boxes, scores, labels, drawn, masks)


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
