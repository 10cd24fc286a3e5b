"""SSD and SSDLite.

Papers: "SSD: Single Shot MultiBox Detector", arXiv 1512.02325, figure 2; for 512 px: the authors'
branch ``ssd`` of Caffe. SSDLite: "MobileNetV2", arXiv 1801.04381, section 6.2; with MobileNetV3:
arXiv 1905.02244, section 6.3. Reference: torchvision's `SSD`, with which outputs agree.

Labels count the classes from 0; the background is the last of the logits. torchvision's files have
91 rows, of the background and of COCO's category ids 1 to 90: label k is category id k + 1, and the
ids that COCO does not use are classes without examples.

Deviations: the padding of the images is set to zero, but the model is for images of one size, whose
aspect is not kept. In training, running statistics move by a tenth a step; torchvision's SSDLite's
by 0.03. torchvision has no model for 512 px: the layers after the VGG are the authors'.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.conv import conv_layer
from zoo.models.backbones import freeze_mappings
from zoo.models.detection.parts.class_decoding import ClassDecoding
from zoo.models.detection.parts.dense import DenseOutput, dense_output
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.ssd.trunks import (
    LITE_INIT,
    XAVIER,
    LiteTrunk,
    VggTrunk,
    lite_layer,
)
from zoo.ops.priors import PriorBoxes
from zoo.outputs import Targets
from zoo.types import Preprocessing

_Levels = list[Float[Array, "b _ _"]]


class SSDHead(nn.Module):
    """The outputs of each level, which has its own layers.

    Attributes:
        num_classes: Without the background.
        num_anchors: Default boxes of a cell, for each level.
        lite: Whether an output is a depthwise 3 x 3 convolution and a 1 x 1 one; else it is a 3 x 3
            convolution.
        dtype: Dtype of the depthwise convolutions; parameters and the outputs are float32.
    """

    num_classes: int
    num_anchors: tuple[int, ...]
    lite: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ _"], ...], *, train: bool = False
    ) -> tuple[_Levels, _Levels]:
        """Logits, with the background last, and deltas; by row, column, and box of the cell."""
        outputs = []
        for name, size in (("logits", self.num_classes + 1), ("deltas", 4)):
            levels = []
            for i, (x, count) in enumerate(zip(maps, self.num_anchors, strict=True)):
                x = self._output(x, size * count, f"{name}_{i}", train=train)
                levels.append(x.reshape(x.shape[0], -1, size))
            outputs.append(levels)
        return outputs[0], outputs[1]

    def _output(
        self, x: Float[Array, "b h w c"], dim: int, name: str, *, train: bool
    ) -> Float[Array, "b h w d"]:
        """The layers of one output."""
        options: dict[str, Any] = {"bias": True, "dtype": jnp.float32, "name": name}
        if not self.lite:
            return conv_layer(dim, 3, kernel_init=XAVIER, **options)(x.astype(jnp.float32))
        groups = x.shape[-1]
        names = f"{name}_depthwise_{{}}"
        x = lite_layer(x, groups, 3, groups=groups, dtype=self.dtype, train=train, name=names)
        return conv_layer(dim, 1, kernel_init=LITE_INIT, **options)(x.astype(jnp.float32))


class SSD(nn.Module):
    """Images to the class and box of every default box.

    Attributes:
        num_classes: Number of classes, without the background; 90 for COCO in torchvision's files
            (see above).
        image_size: Height and width of the images that the default boxes are made for.
        backbone: Name of a registered VGG; of a MobileNetV3 for SSDLite.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation of a
            VGG is ``frozen`` unless `norm` is given here.
        lite: Whether this is an SSDLite, with separable convolutions.
        dense_dim: Features of the two convolutions after a VGG.
        dense_dilation: Dilation of the first of them.
        extra_dims: Features of the further maps.
        extra_kernels: After a VGG: height and width of the kernels that make them.
        extra_strides: Likewise: their strides.
        extra_paddings: Likewise: their paddings on every side.
        prior_fields: Fields of `zoo.ops.priors.PriorBoxes`.
        decoding_fields: Fields of `zoo.models.detection.parts.class_decoding.ClassDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 90
    image_size: int = 300
    backbone: str = "vgg16"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    lite: bool = False
    dense_dim: int = 1024
    dense_dilation: int = 6
    extra_dims: tuple[int, ...] = (512, 256, 256, 256)
    extra_kernels: tuple[int, ...] = (3, 3, 3, 3)
    extra_strides: tuple[int, ...] = (2, 2, 1, 1)
    extra_paddings: tuple[int, ...] = (1, 1, 0, 0)
    prior_fields: Mapping[str, Any] = FrozenDict(
        {
            "scales": (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
            "ratios": ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
            "steps": (8, 16, 32, 64, 100, 300),
        }
    )
    decoding_fields: Mapping[str, Any] = FrozenDict()
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules; those of the trunk are ``body``, ``extra_0_conv_0`` and so on."""
        self.trunk = self.make_trunk()
        nn.share_scope(self, self.trunk)
        self.priors = PriorBoxes(**self.prior_fields)
        self.head = SSDHead(self.num_classes, self.priors.num_per_cell, self.lite, self.dtype)

    @nn.nowrap
    def make_trunk(self) -> VggTrunk | LiteTrunk:
        """What makes the maps."""
        if self.lite:
            return LiteTrunk(self.backbone, self.backbone_fields, self.extra_dims, self.dtype)
        return VggTrunk(
            self.backbone,
            self.backbone_fields,
            self.dense_dim,
            self.dense_dilation,
            self.extra_dims,
            self.extra_kernels,
            self.extra_strides,
            self.extra_paddings,
            self.dtype,
        )

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone: see the `make_body` of the trunks."""
        return self.make_trunk().make_body()

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps, finest first."""
        return self.trunk(images, train=train)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> DenseOutput:
        """Predictions for normalised images.

        Args:
            images: A batch; images that are not of the size of the batch are padded below and on
                the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm is in training.
        """
        del targets
        images, _ = pad_images(images, valid, 1)
        maps = self.features(images, train=train)
        logits, deltas = self.head(maps, train=train)
        decoding = ClassDecoding(**self.decoding_fields)
        return dense_output(images, maps, self.priors, logits, deltas, decoding)
