"""The targets, the proposals and the predictions of the tasks, one class for each kind.

The arrays hold a batch and are on the devices. `zoo.predict` returns numpy arrays of one image,
without the axis b; only its `Classes` are JAX arrays with an axis b of length 1.
"""

from typing import no_type_check

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from zoo.types import Paste


class Classes(struct.PyTreeNode):
    """The most probable classes of each image, most probable first.

    Attributes:
        classes: Class numbers, from 0.
        scores: Softmax probabilities of these classes.
        names: From `zoo.predict`: their names, if the weights or the caller have names.
    """

    classes: Int[Array, "b j"]
    scores: Float[Array, "b j"]
    names: tuple[str, ...] = struct.field(pytree_node=False, default=())


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class Solids(struct.PyTreeNode):
    """Objects with a box in space; `zoo.ops.cameras` has the conventions.

    Attributes:
        boxes: ``xyxy`` in pixels of the padded batch.
        scores: Score of the class, 0..1.
        labels: Classes, from 0.
        valid: False for entries that only fill the arrays up to a fixed number of objects.
        alphas: Angles at which the camera observes the objects, -pi..pi.
        dimensions: Height, width and length in metres.
        locations: x, y and z of the middle of the bottom, in metres.
        rotations: About y, -pi..pi.
    """

    boxes: Float[Array, "b n 4"]
    scores: Float[Array, "b n"]
    labels: Int[Array, "b n"]
    valid: Bool[Array, "b n"]
    alphas: Float[Array, "b n"]
    dimensions: Float[Array, "b n 3"]
    locations: Float[Array, "b n 3"]
    rotations: Float[Array, "b n"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class Targets(struct.PyTreeNode):
    """The objects that a detector should find, in pixels of the padded batch.

    Attributes:
        boxes: ``xyxy``.
        labels: Classes, from 0; any number where `valid` is False.
        valid: True where there is an object.
        sizes: Height and width of each image without padding; padding is below and on the right.
        image_valid: False for an all-padding example; losses and metrics ignore it.
        masks: True for the object's pixels in the padded batch; or in `mask_frames`, where 255 is a
            cell that is all in the object. None if the data have no masks.
        keypoints: x, y and visibility: 0 unlabelled, 1 hidden, 2 visible; None if the data have no
            keypoints.
        mask_frames: The box that each of `masks` shows, ``xyxy``, with as many cells for every
            object; None: they show the padded batch.
        ignored: True where there is an object, none of the `valid` ones, that is not to be found
            and is no background either; None if there are none.
        solids: The boxes of the objects in space; None if the data have none.
    """

    boxes: Float[Array, "b m 4"]
    labels: Int[Array, "b m"]
    valid: Bool[Array, "b m"]
    sizes: Int[Array, "b 2"]
    image_valid: Bool[Array, " b"]
    masks: Bool[Array, "b m h w"] | UInt8[Array, "b m s s"] | None = None
    keypoints: Float[Array, "b m j 3"] | None = None
    mask_frames: Float[Array, "b m 4"] | None = None
    ignored: Bool[Array, "b m"] | None = None
    solids: Solids | None = None


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class Proposals(struct.PyTreeNode):
    """Regions that may hold an object, for detectors that are given them.

    Attributes:
        boxes: ``xyxy`` in pixels of the padded batch.
        valid: False for entries that only fill the arrays up to a fixed number of regions.
    """

    boxes: Float[Array, "b r 4"]
    valid: Bool[Array, "b r"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class Detections(struct.PyTreeNode):
    """The objects that a detector found; `zoo.predict` returns the valid ones, best score first.

    Attributes:
        boxes: ``xyxy`` in pixels. A family's `decode` returns pixels of the model's input;
            evaluation and `zoo.predict` return pixels of the original image. Boxes may extend
            beyond the image.
        scores: Score of the class, 0..1.
        labels: Classes, from 0.
        valid: False for entries that only fill the arrays up to a fixed number of objects.
        masks: From a family's `decode`: logits over the padded input, at a coarser stride. From
            `zoo.predict`: True for the object's pixels. None for a model without masks, or with
            `mask_crops`.
        mask_crops: From a family's `decode`: the probability, 0..1, that a part of the object's box
            belongs to the object, on a grid of s x s parts of equal size. In the image, a pixel
            belongs to the object if the probability that is pasted there is at least 0.5. None for
            other models, and from `zoo.predict`, where `masks` are the pasted ones.
        keypoints: x, y and score of each joint: x and y in pixels as `boxes`, on the scale of the
            annotations that the model learnt from (an annotated joint is predicted without an
            offset); the score on the family's own scale, in pictures shown if above 0. None for a
            model without keypoints.
        overlay: From `zoo.predict`: the image, on which the objects with a score of at least 0.5
            are drawn; small images are enlarged.
        names: From `zoo.predict`: the name of each label, if the weights or the caller have names.
        paste: How `mask_crops` are pasted: ``centres`` is detectron2's rule, ``whole_pixels`` is
            torchvision's; see `zoo.ops.instance_masks.paste_masks`.
    """

    boxes: Float[Array, "*b n 4"]
    scores: Float[Array, "*b n"]
    labels: Int[Array, "*b n"]
    valid: Bool[Array, "*b n"]
    masks: Float[Array, "b n rows columns"] | Bool[np.ndarray, "n h w"] | None = None
    mask_crops: Float[Array, "*b n s s"] | None = None
    keypoints: Float[Array, "*b n j 3"] | None = None
    overlay: UInt8[np.ndarray, "rows columns 3"] | None = None
    names: tuple[str, ...] = struct.field(pytree_node=False, default=())
    paste: Paste = struct.field(pytree_node=False, default="centres")


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class LabelMaps(struct.PyTreeNode):
    """The true class of each pixel, for segmentation.

    Attributes:
        labels: Classes, from 0; `zoo.types.IGNORE_LABEL` for pixels that are ignored.
        valid: False for an all-padding example; losses and metrics ignore it.
        border: Added to the weight of each pixel whose weight is above 0; None adds nothing.
    """

    labels: UInt8[Array, "b h w"]
    valid: Bool[Array, " b"]
    border: Float[Array, "b h w"] | None = None


class Segments(struct.PyTreeNode):
    """The most probable class of each pixel.

    Attributes:
        labels: Class numbers, from 0; there are at most 255 classes.
        scores: Softmax probabilities of these classes.
        overlay: From `zoo.predict`: the image, blended with the colours of its labels; label 0 is
            transparent.
        names: From `zoo.predict`: the names of all classes, by number, if the weights or the caller
            have names.
    """

    labels: UInt8[Array | np.ndarray, "*b h w"]
    scores: Float[Array | np.ndarray, "*b h w"]
    overlay: UInt8[np.ndarray, "h w 3"] | None = None
    names: tuple[str, ...] = struct.field(pytree_node=False, default=())


class Panoptic(struct.PyTreeNode):
    """One image divided into segments: one for each object of things, and segments of stuff.

    Attributes:
        ids: Segment number of each pixel: 1 for the first entry of `labels`, and so on; 0
            everywhere if nothing was found.
        labels: Class of each segment.
        scores: Probability of that class.
        overlay: The image, on which the segments, their classes and scores are drawn; small images
            are enlarged.
        names: The name of each segment's class, if the weights or the caller have names.
    """

    ids: Int[np.ndarray, "h w"]
    labels: Int[np.ndarray, " s"]
    scores: Float[np.ndarray, " s"]
    overlay: UInt8[np.ndarray, "rows columns 3"]
    names: tuple[str, ...] = struct.field(pytree_node=False, default=())


class Tokens(struct.PyTreeNode):
    """The tokens that a text model should predict, each from the tokens before it.

    Attributes:
        tokens: Numbers of tokens in the vocabulary.
        valid: False for padding.
    """

    tokens: Int[Array, "b t"]
    valid: Bool[Array, "b t"]
