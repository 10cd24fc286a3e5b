"""ExtremeNet: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.detection.extremenet.decode import POINTS, decode
from zoo.models.detection.extremenet.loss import ExtremeNetLoss
from zoo.models.detection.extremenet.model import ExtremeNet
from zoo.models.detection.extremenet.names import NAMES
from zoo.models.detection.parts.hourglass_names import authors_preprocessing, hourglass_layers
from zoo.models.detection.parts.variants import NANO_HOURGLASS, scene_variant
from zoo.models.inputs import padded_images


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The layers of the hourglasses."""
    return hourglass_layers(model.make_trunk())


FAMILY = Family(
    title="ExtremeNet",
    summary="Hourglass-104",
    module=ExtremeNet,
    task="detection",
    paper="1901.08043",
    reference="the authors' code",
    inputs=padded_images,
    names=NAMES,
    loss=ExtremeNetLoss,
    decode=decode,
    layers=_layers,
    head=tuple(f"params/heads_{stack}/heat_{name}/out/" for stack in range(2) for name in POINTS),
    learns=lambda _: ("masks",),
    variants={
        # Not from the paper: for tests, demos and small images.
        "extremenet_nano": scene_variant(
            hourglass_fields=NANO_HOURGLASS,
            head_dim=48,
            odd_sides=False,
            decoding_fields=FrozenDict({"points": 20, "candidates": 200, "refined_centres": True}),
        ),
        "extremenet_hourglass104": Variant(
            preprocessing=authors_preprocessing((480, 640)),
            parity="8e-5, the authors' code in float64",
        ),
    },
)
