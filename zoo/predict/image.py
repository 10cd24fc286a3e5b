"""`zoo.predict`: applies a model to one image and draws the result."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from zoo.classical.selective_search import propose
from zoo.data.annotations import COCO_JOINTS
from zoo.data.augment.picture import Size, fit_size
from zoo.data.decode import decode_image, to_rgb
from zoo.data.transforms import letterbox, normalize, resize, resize_and_crop
from zoo.described import preprocessing_of
from zoo.ops.palette import draw_objects, draw_segments, overlay
from zoo.ops.panoptic import merge_masks
from zoo.outputs import Classes, Detections, Panoptic, Proposals, Segments
from zoo.predict.inputs import HostImage, Source, local_image
from zoo.predict.object_masks import binary_masks
from zoo.predict.outputs import detect, predict_classes, predict_pixels
from zoo.predict.tiled import make_tiling, predict_tiled
from zoo.registry import FAMILIES
from zoo.types import InputError, Preprocessing, ProposalSearch

Skeleton = Sequence[tuple[int, int]]


def predict_image(
    model: Any,
    variables: Mapping[str, Any],
    image: Source | Sequence[Source],
    preprocessing: Preprocessing | None,
    class_names: Sequence[str],
    things: Collection[int] | None,
    skeleton: Skeleton | None,
) -> Any:
    """Applies a model to one image or several: see `zoo.predict.predict`."""
    family = next((family for family in FAMILIES if type(model) is family.module), None)
    if family is None or family.task not in _PREDICT:
        known = sorted(f.module.__name__ for f in FAMILIES if f.task in _PREDICT)
        raise InputError(f"predict knows no {type(model).__name__}; it knows {', '.join(known)}")
    if things is not None and not getattr(model, "masks", False):
        raise InputError(
            f"things are for a detector with masks; this {type(model).__name__} has none"
        )
    how = preprocessing or preprocessing_of(model)
    options: dict[str, Any] = {"class_names": class_names or getattr(model, "class_names", ())}
    if family.task == "detection":
        options |= {"things": things, "skeleton": skeleton}
    predict_one = partial(_PREDICT[family.task], model, variables, how=how, **options)
    if not isinstance(image, list | tuple):
        return predict_one(_pixels(local_image(image)))
    found = []
    for number, one in enumerate(image):
        try:
            found.append(predict_one(_pixels(local_image(one))))
        except InputError as error:
            raise InputError(f"images[{number}]: {error}") from error
    return found


def _pixels(image: Path | Image.Image | HostImage) -> HostImage:
    if isinstance(image, Path):
        try:
            return decode_image(Path(image).expanduser().read_bytes(), str(image))
        except OSError as error:
            raise InputError(f"{image}: cannot be read: {error.strerror}") from error
    if isinstance(image, Image.Image):
        return to_rgb(image, "the image")
    return image


@partial(jax.jit, static_argnums=(0, 3))
def _apply(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: UInt8[Array, "b h w 3"],
    how: Preprocessing,
) -> Float[Array, "b ..."]:
    return jnp.asarray(model.apply(variables, normalize(images, how.mean, how.std)))


def _classify(
    model: Any,
    variables: Mapping[str, Any],
    image: HostImage,
    how: Preprocessing,
    *,
    class_names: Sequence[str],
) -> Classes:
    size = getattr(model, "image_size", how.size)
    size = (size, size) if isinstance(size, int) else size
    image = resize_and_crop(image, size, how.crop_fraction, how.interpolation, how.crop_mode)
    found = predict_classes(_apply(model, variables, image[None], how))
    return found.replace(names=_names(np.asarray(found.classes)[0], class_names))


_Sizes = tuple[Size, Size, Size]
"""Height and width of the padded input, of the image in it, and of the original image: a mask is
resized through these sizes."""


def _detect(
    model: Any,
    variables: Mapping[str, Any],
    image: HostImage,
    how: Preprocessing,
    *,
    class_names: Sequence[str],
    things: Collection[int] | None,
    skeleton: Skeleton | None,
) -> Detections | Panoptic:
    height, width, _ = image.shape
    if how.crop_mode in ("squash", "letterbox"):
        size = rows, columns = how.size
    else:
        size = fit_size((height, width), min(how.size), max(how.size))
        rows, columns = [-(-side // 32) * 32 for side in size]  # fewer sizes to compile
    padded = np.zeros((1, rows, columns, 3), np.uint8)
    if how.crop_mode == "letterbox":
        padded[0] = letterbox(image, size)
    else:
        padded[0, : size[0], : size[1]] = resize(image, size, how.interpolation)
    both = np.array([size, (height, width)], np.int32)[:, None]
    proposals = _propose(image, how.proposals, size) if how.proposals else None
    batch = jax.device_get(_find(model, variables, padded, *both, proposals, how))
    valid = np.flatnonzero(batch.valid[0])
    found = jax.tree.map(lambda x: x[0][valid], batch)
    sizes = (rows, columns), size, (height, width)
    if things is None:
        return _objects(image, found, sizes, class_names, skeleton)
    if found.masks is None:
        raise InputError(
            f"things are for a detector with masks of all segments; the masks of this"
            f" {type(model).__name__} are of the objects in its boxes"
        )
    return _segments(image, found, sizes, class_names, things)


def _propose(image: HostImage, search: ProposalSearch, size: Size) -> Proposals:
    """The proposals of an image, in pixels of its resized form, padded to a fixed number."""
    found, count = propose(image, search), search.num_proposals
    scale = np.array(size[::-1] * 2, np.float32) / np.array(image.shape[1::-1] * 2, np.float32)
    boxes = np.pad(found * scale, ((0, count - len(found)), (0, 0)))
    return Proposals(jnp.asarray(boxes)[None], jnp.arange(count)[None] < len(found))


def _objects(
    image: HostImage,
    found: Any,
    sizes: _Sizes,
    class_names: Sequence[str],
    skeleton: Skeleton | None,
) -> Detections:
    """The objects of one image, best score first, and a picture of them."""
    order = np.argsort(-found.scores, kind="stable")
    found = jax.tree.map(lambda x: x[order], found)
    masks = binary_masks(found, *sizes)
    shown = found.scores >= 0.5
    labels = found.labels[shown]
    drawn = draw_objects(
        image,
        found.boxes[shown],
        labels,
        _texts(labels, found.scores[shown], class_names),
        None if masks is None else masks[shown],
        None if found.keypoints is None else found.keypoints[shown],
        _limbs(found.keypoints, skeleton),
    )
    names = _names(found.labels, class_names)
    return found.replace(masks=masks, mask_crops=None, overlay=drawn, names=names)


def _limbs(keypoints: Float[np.ndarray, "n j 3"] | None, skeleton: Skeleton | None) -> Skeleton:
    """The limbs of the picture: those asked for, or else COCO's if the number of joints is its."""
    count = 0 if keypoints is None else keypoints.shape[1]
    if skeleton is not None:
        if not all(0 <= joint < count for limb in skeleton for joint in limb):
            raise InputError(f"the skeleton {skeleton} has joints that the {count} joints lack")
        return skeleton
    return COCO_JOINTS.skeleton if count == len(COCO_JOINTS.names) else ()


def _segments(
    image: HostImage,
    found: Any,
    sizes: _Sizes,
    class_names: Sequence[str],
    things: Collection[int],
) -> Panoptic:
    """Merges the objects' masks into one map of segments, and draws it."""
    ids, labels, scores = merge_masks(found.masks, found.labels, found.scores, things, *sizes)
    drawn = draw_segments(image, ids, labels, _texts(labels, scores, class_names))
    return Panoptic(ids, labels, scores, drawn, _names(labels, class_names))


def _texts(
    labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], class_names: Sequence[str]
) -> list[str]:
    names = _names(labels, class_names) or map(str, labels)
    return [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]


def _names(labels: Int[np.ndarray, " n"], class_names: Sequence[str]) -> tuple[str, ...]:
    """The name of each label, or its number if it has none; empty without any names."""
    if not class_names:
        return ()
    numbers: list[int] = labels.tolist()
    return tuple(class_names[i] if i < len(class_names) else str(i) for i in numbers)


@partial(jax.jit, static_argnums=(0, 6))
def _find(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: UInt8[Array, "b h w 3"],
    sizes: Int[Array, "b 2"],
    original_sizes: Int[Array, "b 2"],
    proposals: Proposals | None,
    how: Preprocessing,
) -> Detections:
    images = normalize(images, how.mean, how.std)
    letterboxed = how.crop_mode == "letterbox"
    return detect(model, variables, images, sizes, original_sizes, proposals, letterbox=letterboxed)


def _segment(
    model: Any,
    variables: Mapping[str, Any],
    image: HostImage,
    how: Preprocessing,
    *,
    class_names: Sequence[str],
) -> Segments:
    # A window need not be larger than a small image, unless the model has a margin.
    size = (min(how.size[0], image.shape[0]), min(how.size[1], image.shape[1]))
    tiling = make_tiling(model, size if not model.margin else how.size)

    def of_windows(windows: UInt8[np.ndarray, "b h w 3"]) -> Segments:
        return predict_pixels(_apply(model, variables, windows, how))

    (found,) = predict_tiled(of_windows, [image], tiling, 1)
    labels, scores = np.asarray(found.labels), np.asarray(found.scores)
    return Segments(labels, scores, overlay(image, labels), tuple(class_names))


_PREDICT = {"classification": _classify, "detection": _detect, "segmentation": _segment}
