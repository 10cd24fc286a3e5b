"""U-Net on a backbone.

Paper: "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv 1505.04597; here
its expanding path uses the feature maps of a pretrained network. Reference:
segmentation_models_pytorch's `Unet`, whose weights it loads.

Deviation: the head is not initialised with zeros, unlike the heads of the zoo's classifiers.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.models.backbones import freeze_fields, make_backbone
from zoo.models.segmentation.parts.conv_block import ConvBlock, check_sides
from zoo.ops.resample import upsample_nearest
from zoo.types import Preprocessing


class BackboneUNet(nn.Module):
    """Images to logits of pixels: the expanding path on the feature maps of a backbone.

    Starting from the coarsest map, each step doubles the sides, concatenates the backbone's map of
    that size, if there is one, and applies convolutions. A ResNet has a map of every size except
    the full one. The order of these steps is that of segmentation_models_pytorch.

    Attributes:
        num_classes: Classes of the head; 0 gives the last features instead of logits.
        backbone: Name of a registered ResNet or ViT.
        backbone_fields: Fields that replace those of the backbone's name.
        decoder_dims: Features of the steps; the last step has full size. Only the last
            log2(largest stride of the backbone) of them are used.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 2
    backbone: str = "resnet34"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    decoder_dims: tuple[int, ...] = (256, 128, 64, 32, 16)
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    margin = 0  # every pixel has an output

    def __post_init__(self) -> None:
        """Makes the backbone's fields hashable, as a module's fields must be."""
        object.__setattr__(self, "backbone_fields", freeze_fields(self.backbone_fields))
        super().__post_init__()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        # Unbound: it is also built outside of setup, for its strides.
        fields = {**self.backbone_fields, "parent": None}
        return make_backbone(self.backbone, fields, self.dtype)

    @property
    def multiple(self) -> int:
        """Sides of inputs must be multiples of this."""
        return self.make_body().feature_strides[-1]

    @nn.nowrap
    def input_side(self, outputs: int) -> int:
        """The smallest side of an input that gives at least `outputs` pixels of output."""
        return -(-outputs // self.multiple) * self.multiple

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        block = partial(ConvBlock, norm="batch", dtype=self.dtype)
        steps = int(math.log2(self.multiple))
        self.decoder = [block(dim) for dim in self.decoder_dims[-steps:]]
        if self.num_classes:
            init = nn.initializers.xavier_uniform()
            self.head = nn.Conv(self.num_classes, (3, 3), padding=1, kernel_init=init)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h w k"]:
        """Logits of normalised images.

        Raises:
            ValueError: If a side of the images is not a multiple of `multiple`.
        """
        check_sides(self, images)
        maps = getattr(self.body, "pyramid", self.body.feature_maps)(images, train=train)
        by_height = {map_.shape[1]: map_ for map_ in maps}
        x = maps[-1]
        for block in self.decoder:
            x = upsample_nearest(x)
            if x.shape[1] in by_height:
                x = jnp.concatenate([x, by_height[x.shape[1]]], axis=-1)
            x = block(x, train=train)
        return self.head(x.astype(jnp.float32)) if self.num_classes else x
