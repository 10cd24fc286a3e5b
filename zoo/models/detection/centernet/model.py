"""CenterNet: objects as points.

Paper: "Objects as Points", arXiv 1904.07850. References: the authors' code and mmdet's `CenterNet`,
with which outputs agree. An object is the peak of its class's heat map; at this cell, other maps
hold the object's size and where in the cell its centre is.

Deviations: images are padded below and on the right, with the mean colour; the authors put them in
the middle of a black canvas, which is at least one pixel larger.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.models.backbones import freeze_mappings
from zoo.models.detection.centernet.trunks import TRUNKS, HourglassTrunk
from zoo.models.detection.parts.centre_outputs import CenterNetOutput
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.keypoint_maps import HEAT_BIAS, MapHead
from zoo.outputs import Targets
from zoo.types import InputError, Preprocessing

_OUTPUT = nn.initializers.normal(0.001)


class Heads(nn.Module):
    """A `MapHead` for each output.

    Attributes:
        dims: Name and features of each output. Those with ``heat`` in their names are logits.
        hidden_dim: Features of the 3 x 3 convolutions.
        dtype: Dtype of the 3 x 3 convolutions; parameters and the outputs are float32.
    """

    dims: Mapping[str, int]
    hidden_dim: int = 64
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> dict[str, Float[Array, "b h w _"]]:
        """The outputs by name."""
        found = {}
        for name, dim in self.dims.items():
            start: dict[str, Any] = {"bias": HEAT_BIAS} if "heat" in name else {"out_init": _OUTPUT}
            found[name] = MapHead(dim, self.hidden_dim, dtype=self.dtype, name=name, **start)(x)
        return found


class CenterNet(nn.Module):
    """Images to heat maps of centres, and the sizes of the objects there.

    Attributes:
        num_classes: Number of classes, without the background.
        trunk: One of `zoo.models.detection.centernet.trunks.TRUNKS`: ``deconv`` enlarges the last
            map of a backbone, ``dla`` aggregates the maps of a DLA, ``hourglass`` has no backbone.
        backbone: Name of a registered backbone, for the first two.
        backbone_fields: Fields that replace those of the backbone's name.
        trunk_fields: Further fields of the trunk.
        head_dim: Features of the 3 x 3 convolutions of the heads.
        most: Largest number of detections of an image.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    trunk: str = "deconv"
    backbone: str = "resnet18"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    trunk_fields: Mapping[str, Any] = FrozenDict()
    head_dim: int = 64
    most: int = 100
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    output: ClassVar[type[CenterNetOutput]] = CenterNetOutput

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    @property
    def output_dims(self) -> dict[str, int]:
        """Name and features of each output of the heads."""
        return {"heat_logits": self.num_classes, "sizes": 2, "offsets": 2}

    def setup(self) -> None:
        """Makes the submodules: ``body`` and others of a trunk with a backbone, else ``net``."""
        self.net = self.make_trunk()
        if not isinstance(self.net, HourglassTrunk):
            nn.share_scope(self, self.net)

    @nn.nowrap
    def make_trunk(self) -> Any:
        """What makes the maps; raises InputError if there is no such trunk or it has no such field.

        A trunk without a backbone does not get one.
        """
        if self.trunk not in TRUNKS:
            raise InputError(f"no trunk {self.trunk!r}; there are {', '.join(sorted(TRUNKS))}")
        fields = dict(self.trunk_fields)
        if "backbone" in TRUNKS[self.trunk].__dataclass_fields__:
            fields |= {"backbone": self.backbone, "backbone_fields": self.backbone_fields}
        try:
            return TRUNKS[self.trunk](dtype=self.dtype, **fields)
        except TypeError as error:
            raise InputError(f"trunk {self.trunk}: {error}") from error

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone: see the `make_body` of the trunks."""
        return self.make_trunk().make_body()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> CenterNetOutput:
        """Predictions for normalised images.

        Args:
            images: A batch; images that are not of the size of the batch are padded below and on
                the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm is in training.
        """
        del targets
        images, _ = pad_images(images, valid, self.net.divisor)
        maps = self.net(images, train=train)
        shared = {"stride": self.net.stride, "most": self.most}
        found = []
        for i, x in enumerate(maps):
            if train or self.is_initializing() or i == len(maps) - 1:
                heads = Heads(self.output_dims, self.head_dim, self.dtype, name=f"head_{i}")
                found.append(self.output(**heads(x), **shared))
        return found[-1].replace(earlier=tuple(found[:-1]))
