"""What the YOLO detectors have in common: the backbone, the norms, and the way to the output."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers import Norm
from zoo.models.backbones import freeze_mappings, make_frozen_backbone
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.yolo import YoloDecoding, YoloOutput, yolo_output
from zoo.outputs import Targets
from zoo.types import Preprocessing


class YoloDetector(nn.Module):
    """Images to the class, box and objectness of every anchor.

    A subclass makes ``body``, ``grid``, a `zoo.ops.grid_anchors.GridAnchors`, and ``levels``, a
    `zoo.models.detection.parts.yolo.YoloPredictor` for each map of `features`.

    Attributes:
        num_classes: Number of classes.
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name.
        norm: Kind of norm, in the backbone as well; ``frozen`` for constants.
        norm_epsilon: Added to the variance in norms, in the backbone as well.
        norm_momentum: Share of the old statistics that training keeps, after the backbone.
        negative_slope: Factor of negative values after the backbone.
        decoding_fields: Fields of `zoo.models.detection.parts.yolo.YoloDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    backbone: str = "darknet53"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.99
    negative_slope: float = 0.1
    decoding_fields: Mapping[str, Any] = FrozenDict()
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = {"norm": self.norm, **self.backbone_fields}
        return make_frozen_backbone(self.backbone, fields, self.dtype, self.norm_epsilon)

    @property
    def norms(self) -> Mapping[str, Any]:
        """The fields of the `zoo.layers.ConvNorm` after the backbone."""
        names = ("norm", "norm_epsilon", "norm_momentum", "negative_slope", "dtype")
        return FrozenDict({name: getattr(self, name) for name in names})

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps before the last layers, finest first; each subclass has its own."""
        raise NotImplementedError

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> YoloOutput:
        """Predictions for normalised images.

        Args:
            images: A batch; images that are not of the size of the batch are padded below and on
                the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm is in training.
        """
        del targets
        images, _ = pad_images(images, valid, max(self.body.feature_strides))
        maps = self.features(images, train=train)
        levels = [predict(x) for x, predict in zip(maps, self.levels, strict=True)]
        return yolo_output(self.grid, maps, levels, YoloDecoding(**self.decoding_fields))
