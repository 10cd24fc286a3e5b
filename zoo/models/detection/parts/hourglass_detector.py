"""What the detectors with stacked hourglasses have in common: CornerNet and ExtremeNet."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.hourglass import StackedHourglass
from zoo.models.backbones import freeze_mappings
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.keypoint_maps import Scale
from zoo.types import Preprocessing


class HourglassDetector(nn.Module):
    """Images to heat maps of the points that mark objects.

    A subclass makes ``trunk``; it has its own `points`, and its call gives what `points_of` does.

    Attributes:
        num_classes: Number of classes.
        hourglass_fields: Fields of `zoo.layers.hourglass.StackedHourglass`.
        head_dim: Features of the first convolution of each output.
        odd_sides: Whether images are padded to one pixel less than a multiple of the stride of the
            coarsest map, as the published weights expect it; else to a multiple.
        decoding_fields: Fields of the rule by which the output becomes detections.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    hourglass_fields: Mapping[str, Any] = FrozenDict()
    head_dim: int = 256
    odd_sides: bool = True
    decoding_fields: Mapping[str, Any] = FrozenDict()
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    @nn.nowrap
    def make_trunk(self) -> StackedHourglass:
        """What makes the maps for the heads; raises InputError if a field is out of its range."""
        return StackedHourglass(**self.hourglass_fields, dtype=self.dtype)

    def points(
        self, maps: tuple[Float[Array, "b h w d"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b s p h w _"], ...]:
        """The outputs for the map after each hourglass, s, and each kind of point, p.

        The logits of the classes are the first. Each subclass has its own.
        """
        raise NotImplementedError

    def points_of(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None,
        *,
        train: bool,
    ) -> tuple[tuple[Float[Array, "b s p rows columns _"], ...], Scale]:
        """What `points` gives for normalised images, and the cells for a pixel of them.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            train: Whether batch norm is in training.
        """
        padded, _ = pad_images(images, valid, self.trunk.coarsest_stride, less=int(self.odd_sides))
        found = self.points(self.trunk(padded, train=train), train=train)
        rows, columns = found[0].shape[3:5]
        return found, (columns / padded.shape[2], rows / padded.shape[1])
