"""A detector that scores every window of an image pyramid, and the ways to score windows.

The window has one size; the image is resized, so that objects of other sizes fit the window, too.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32

from zoo.ops.nms import nms, select
from zoo.ops.pyramid import Size, image_pyramid, pyramid_sizes, window_boxes
from zoo.outputs import Detections
from zoo.types import InputError

ScoreMaps = Callable[[Float[Array, "b h w c"]], Float[Array, "b rows columns k"]]
"""Images to the scores of their windows. The window at (row, column) has its top left pixel at
(row * stride, column * stride); k scores belong to it."""


@dataclasses.dataclass(frozen=True)
class WindowDetector:
    """Finds the windows with the best scores, at all scales.

    Attributes:
        score_maps: Scores the windows of images: see `score_windows`, `score_convolutionally` and
            `zoo.classical.templates.score_templates`.
        window: Height and width of a window.
        stride: Pixels from one window to the next.
        labels: The class of each of the k scores.
        per_octave: Number of scales of the pyramid from one to half of it.
        largest: The first scale of the pyramid; above 1 to find objects smaller than the window.
        min_score: Windows are candidates if they score more.
        candidates: The best candidates of an image, over all scales and classes, are compared with
            each other; this many at most.
        iou_threshold: Of two boxes of a class with a higher IoU, the better one is kept.
        max_boxes: Number of boxes that are returned, at most `candidates`.
    """

    score_maps: ScoreMaps
    window: Size
    stride: int
    labels: tuple[int, ...] = (0,)
    per_octave: int = 8
    largest: float = 1.0
    min_score: float = 0.5
    candidates: int = 1000
    iou_threshold: float = 0.5
    max_boxes: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.max_boxes <= self.candidates:
            raise InputError(
                f"max_boxes is {self.max_boxes}; allowed are 1 to candidates, {self.candidates}"
            )

    def __call__(self, images: Float[Array, "b h w c"]) -> Detections:
        """The objects in images, best first.

        To be called through `jax.jit`, which compiles it once for each shape of images; otherwise
        every operation is compiled alone for every size of the pyramid, which takes minutes.

        Args:
            images: Prepared as the scores need them.

        Returns:
            `max_boxes` boxes an image, in pixels of the images; the places after the last object
            are not valid.

        Raises:
            InputError: If the images are smaller than the window at the largest scale, or the
                number of scores is not that of the labels.
        """
        original = images.shape[1], images.shape[2]
        sizes = pyramid_sizes(
            original, self.window, per_octave=self.per_octave, largest=self.largest
        )
        if not sizes:
            raise InputError(
                f"images of {original[0]} x {original[1]} px at scale {self.largest} are smaller"
                f" than a window of {self.window[0]} x {self.window[1]} px"
            )
        boxes, scores = [], []
        for size, level in zip(sizes, image_pyramid(images, sizes), strict=True):
            maps = self.score_maps(level)
            b, *grid, k = maps.shape
            scores.append(maps.reshape(b, -1, k))
            places = window_boxes((grid[0], grid[1]), self.window, self.stride, size, original)
            boxes.append(places.reshape(-1, 4))
        return self._suppress(np.concatenate(boxes), jnp.concatenate(scores, axis=1))

    def _suppress(
        self, boxes: Float32[np.ndarray, "n 4"], scores: Float[Array, "b n k"]
    ) -> Detections:
        b, n, k = scores.shape
        if k != len(self.labels):
            raise InputError(f"{k} scores a window, but {len(self.labels)} labels")
        missing = max(-(-self.max_boxes // k) - n, 0)
        boxes = np.pad(boxes, [(0, missing), (0, 0)])
        scores = jnp.pad(scores, [(0, 0), (0, missing), (0, 0)], constant_values=-jnp.inf)
        scores = scores.reshape(b, -1)
        best, index = jax.lax.top_k(scores, min(self.candidates, scores.shape[1]))
        found, labels = jnp.asarray(boxes)[index // k], jnp.asarray(self.labels)[index % k]
        kept = nms(found, best, self.iou_threshold, labels, valid=best > self.min_score)
        chosen, valid = select(kept, best, self.max_boxes)
        return Detections(
            boxes=jnp.take_along_axis(found, chosen[..., None], axis=1),
            scores=jnp.take_along_axis(best, chosen, axis=1),
            labels=jnp.take_along_axis(labels, chosen, axis=1),
            valid=valid,
        )


def score_windows(
    classify: Callable[[Float[Array, "n p q c"]], Float[Array, "n k"]],
    window: Size,
    stride: int,
    *,
    batch_size: int = 256,
) -> ScoreMaps:
    """Scores windows by cutting out each of them: for any classifier.

    Args:
        classify: Windows to their scores, such as the probabilities of the classes of objects,
            without that of the background.
        window: Height and width of a window.
        stride: Pixels from one window to the next.
        batch_size: Number of windows that are in memory at once.
    """

    def score(images: Float[Array, "b h w c"]) -> Float[Array, "b rows columns k"]:
        b, height, width, c = images.shape
        rows, columns = _grid((height, width), window, stride)
        corners = np.indices((b, rows, columns)).reshape(3, -1).T * (1, stride, stride)
        missing = -len(corners) % batch_size
        corners = np.pad(corners, [(0, missing), (0, 0)]).reshape(-1, batch_size, 3)

        def cut(corner: Array) -> Float[Array, "p q c"]:
            return jax.lax.dynamic_slice(images, (*corner, 0), (1, *window, c))[0]

        scores = jax.lax.map(lambda batch: classify(jax.vmap(cut)(batch)), jnp.asarray(corners))
        scores = scores.reshape(-1, scores.shape[-1])
        return scores[: b * rows * columns].reshape(b, rows, columns, -1)

    return score


def score_convolutionally(
    features: Callable[[Float[Array, "b h w c"]], Float[Array, "b rows columns d"]],
    head: Callable[[Float[Array, "n d"]], Float[Array, "n k"]],
    window: Size,
    stride: int,
) -> ScoreMaps:
    """Scores windows from one feature map of the whole image: for convolutional classifiers.

    The classifier of a window is ``head(features(window).mean(axis=(1, 2)))``. If the convolutions
    of `features` are not padded, a window of the image's feature map is the feature map of the
    window, and the scores equal those of `score_windows`. Padded convolutions see the pixels around
    the window instead of zeros, so the scores of windows inside the image differ.

    For a classifier of the zoo with ``feature_maps``, `features` is its last map, and `stride` the
    last of its ``feature_strides``.

    Args:
        features: Images to feature maps; a fully convolutional classifier gives scores here.
        head: Features to scores; of a fully convolutional classifier, the identity.
        window: Height and width of a window.
        stride: Stride of the feature maps, in pixels.
    """

    def score(images: Float[Array, "b h w c"]) -> Float[Array, "b rows columns k"]:
        b, height, width, c = images.shape
        rows, columns = _grid((height, width), window, stride)
        cells = jax.eval_shape(features, jax.ShapeDtypeStruct((1, *window, c), images.dtype))
        x = nn.avg_pool(features(images), cells.shape[1:3])
        x = x[:, :rows, :columns]  # the cells after these belong to windows that end outside
        return head(x.reshape(b * rows * columns, -1)).reshape(b, rows, columns, -1)

    return score


def _grid(size: Size, window: Size, stride: int) -> Size:
    """Rows and columns of windows that lie inside an image."""
    return (size[0] - window[0]) // stride + 1, (size[1] - window[1]) // stride + 1
