"""Predictions for batches by task, for large images by windows, for one image by `predict`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.lazy import attach

if TYPE_CHECKING:
    from zoo.outputs import Classes, Detections, Panoptic, Segments
    from zoo.predict.inputs import Source
    from zoo.predict.outputs import detect, predict_classes, predict_pixels, reconstruct
    from zoo.predict.tiled import make_tiling, predict_tiled
    from zoo.types import Preprocessing

    Prediction = Classes | Detections | Panoptic | Segments

__getattr__, _ = attach(
    __name__,
    {
        "detect": "zoo.predict.outputs",
        "make_tiling": "zoo.predict.tiled",
        "predict_classes": "zoo.predict.outputs",
        "predict_image": "zoo.predict.image",
        "predict_pixels": "zoo.predict.outputs",
        "predict_tiled": "zoo.predict.tiled",
        "reconstruct": "zoo.predict.outputs",
    },
)

__all__ = [
    "detect",
    "make_tiling",
    "predict",
    "predict_classes",
    "predict_pixels",
    "predict_tiled",
    "reconstruct",
]


def predict(
    model: Any,
    variables: Mapping[str, Any],
    image: "Source | list[Source] | tuple[Source, ...]",
    *,
    preprocessing: "Preprocessing | None" = None,
    class_names: Sequence[str] = (),
    things: Collection[int] | None = None,
    skeleton: Sequence[tuple[int, int]] | None = None,
) -> "Prediction | list[Prediction]":
    """Applies a model to one image, or to each of a list of images.

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> from zoo import create
    >>> model = create("mixer_nano_patch4_32", num_layers=1, num_classes=10)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> found = predict(model, variables, np.zeros((48, 64, 3), np.uint8))
    >>> found.classes.shape, found.scores.shape
    ((1, 5), (1, 5))

    Args:
        model: A classifier: the result has its five most probable classes, as a batch of one. Or a
            detector: the result has the objects that it finds, best score first. Or a segmentation
            model: the result has the class of each pixel; the image may have any size.
        variables: Its variables, as `zoo.load` gives them.
        image: A path, a file object opened in binary mode, a PIL image, or a uint8 array
            ``[h w 3]`` of numpy or JAX. For a list of these, the result is a list.
        preprocessing: How the image is prepared; if absent, as the model's field ``preprocessing``
            says, which `zoo.load` sets; if that is None, as for the registered model nearest to it.
        class_names: Names of the classes, in the result and its picture; if absent, those of the
            model's field ``class_names``, which `zoo.load` sets if the weights have names. Without
            names, a picture shows class numbers.
        things: For a detector with masks of all segments: the classes that are things; the others
            are stuff. The masks are then merged into one map of segments. ``range(91)`` for the
            published weights of `detr_resnet50_panoptic`.
        skeleton: For a detector with keypoints: pairs of joints, counted from 0, that the picture
            joins by a line; if absent, COCO's for a model of 17 joints, and none for others.

    Raises:
        InputError: If the image cannot be read or is a URL or anything else that is not allowed,
            `predict` does not support the family, or `things` are given for a model that has no
            masks of objects.
    """
    # Imported on the first call, so that `import zoo` does not import JAX.
    predict_image = __getattr__("predict_image")
    return predict_image(model, variables, image, preprocessing, class_names, things, skeleton)
