"""YOLO v1: each cell of a 7 x 7 grid predicts boxes, and the classes of one object.

Paper: "You Only Look Once: Unified, Real-Time Object Detection", arXiv 1506.02640, figure 3.
Reference: ``cfg/yolov1*.cfg`` of pjreddie/darknet, whose compiled program gives the same outputs,
detections and gradients. Its ``yolov1.cfg`` is not the paper's network: it has a locally connected
layer instead of the first dense layer, and three boxes for each cell.

Deviations: batch norm after every convolution, as in darknet's files; the paper has none. The last
layer starts with an objectness of 0, no class, and boxes of a quarter of the image.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float

from zoo.layers import ConvNorm
from zoo.layers.local_conv import LocalConv
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.yolo import YoloDecoding, YoloOutput, yolo_output
from zoo.models.detection.parts.yolo_detector import YoloDetector
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.grid_coder import RootCoder
from zoo.outputs import Targets
from zoo.types import InputError


class YOLOv1(YoloDetector):
    """Images of one size to the boxes of every cell.

    Attributes:
        num_classes: Number of classes; 20 for PASCAL VOC.
        image_size: Height and width of the images; dense layers fix it.
        num_boxes: Boxes of a cell.
        extra_dims: Features of the 3 x 3 convolutions after the backbone.
        extra_strides: Their strides.
        local_dim: Features of the locally connected layer; None for none.
        hidden_dims: Features of the dense layers before the last one.
        dropout: Rate of dropout before the last layer.
    """

    num_classes: int = 20
    image_size: int = 448
    num_boxes: int = 2
    backbone: str = "extraction"
    extra_dims: tuple[int, ...] = (1024, 1024, 1024, 1024)
    extra_strides: tuple[int, ...] = (1, 2, 1, 1)
    local_dim: int | None = None
    hidden_dims: tuple[int, ...] = (4096,)
    dropout: float = 0.5
    decoding_fields: Mapping[str, Any] = FrozenDict(
        {"classes": "none", "iou_threshold": 0.5, "score_threshold": 0.001}
    )

    def setup(self) -> None:
        """Makes the submodules; `predict` makes the dense layers."""
        self.body = self.make_body()
        convs = zip(self.extra_dims, self.extra_strides, strict=True)
        self.extra = [ConvNorm(dim, 3, stride, **self.norms) for dim, stride in convs]

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The map before the dense layers."""
        x = self.body.feature_maps(images, train=train)[-1]
        for layer in self.extra:
            x = layer(x, train=train)
        return (x,)

    @nn.compact
    def predict(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b a k"], Float[Array, "b a 4"], Float[Array, "b a 1"]]:
        """Classes, boxes and objectness, by row, column, and box of the cell."""
        b, cells, count = x.shape[0], x.shape[1] * x.shape[2], self.num_boxes
        if self.local_dim:
            x = LocalConv(self.local_dim, dtype=self.dtype, name="local")(x)
            x = nn.leaky_relu(x, self.negative_slope)
        x = x.reshape(b, -1)
        for i, dim in enumerate(self.hidden_dims):
            x = nn.Dense(dim, dtype=self.dtype, name=f"hidden_{i}")(x)
            x = nn.leaky_relu(x, self.negative_slope)
        x = nn.Dropout(self.dropout, deterministic=not train)(x).astype(jnp.float32)
        init = nn.initializers.normal(0.01)
        logits = nn.Dense(cells * self.num_classes, kernel_init=init, name="logits")(x)
        objectness = nn.Dense(cells * count, kernel_init=init, name="objectness")(x)
        half = nn.initializers.constant(0.5)
        deltas = nn.Dense(cells * count * 4, kernel_init=init, bias_init=half, name="deltas")(x)
        logits = jnp.repeat(logits.reshape(b, cells, -1), count, axis=1)
        return logits, deltas.reshape(b, -1, 4), objectness.reshape(b, -1, 1)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> YoloOutput:
        """Predictions for normalised images; training needs the stream ``dropout``.

        Args:
            images: A batch of the size `image_size`; smaller images are padded below and on the
                right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm and dropout are in training.

        Raises:
            InputError: If the images have another size.
        """
        del targets
        side = self.image_size
        if images.shape[1:3] != (side, side):
            size = f"{images.shape[1]} x {images.shape[2]}"
            raise InputError(
                f"images of {size} pixels, but image_size={side} needs {side} x {side}"
            )
        images, _ = pad_images(images, valid, 1)
        (x,) = self.features(images, train=train)
        stride = side // x.shape[1]
        grid = GridAnchors((((stride, stride),) * self.num_boxes,), (stride,))
        decoding = YoloDecoding(coder=RootCoder(side), **self.decoding_fields)
        return yolo_output(grid, [x], [self.predict(x, train=train)], decoding)
