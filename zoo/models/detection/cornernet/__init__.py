"""CornerNet: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.detection.cornernet.decode import decode
from zoo.models.detection.cornernet.loss import CornerNetLoss
from zoo.models.detection.cornernet.model import CornerNet
from zoo.models.detection.cornernet.names import NAMES
from zoo.models.detection.parts.hourglass_names import authors_preprocessing, hourglass_layers
from zoo.models.detection.parts.variants import NANO_HOURGLASS, scene_variant
from zoo.models.inputs import padded_images


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The layers of the hourglasses."""
    return hourglass_layers(model.make_trunk())


FAMILY = Family(
    title="CornerNet",
    summary="Hourglass-104, as the authors' and mmdet's",
    module=CornerNet,
    task="detection",
    paper="1808.01244",
    reference="the authors' code, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=CornerNetLoss,
    decode=decode,
    layers=_layers,
    head=tuple(
        f"params/{corner}_{stack}/heat/out/"
        for corner in ("top_left", "bottom_right")
        for stack in range(2)
    ),
    variants={
        # Not from a paper: for tests, demos and small images.
        "cornernet_nano": scene_variant(
            hourglass_fields=NANO_HOURGLASS,
            pool_dim=32,
            head_dim=48,
            odd_sides=False,
        ),
        "cornernet_hourglass104": Variant(
            preprocessing=authors_preprocessing((480, 640)),
            parity="1.5e-4, the authors' code in float64; their own float32: 1.2e-4",
        ),
    },
)
