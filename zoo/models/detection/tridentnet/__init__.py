"""TridentNet: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.backbones import backbone_layers
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.detection.parts.variants import C4, NANO_C4, nano_variant, variant
from zoo.models.detection.tridentnet.decode import trident_rois
from zoo.models.detection.tridentnet.model import TridentNet
from zoo.models.detection.tridentnet.names import NAMES
from zoo.models.inputs import padded_images


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, the blocks in branches, then the last stage."""
    body, blocks = model.make_body(), model.make_net().num_blocks
    stage = len(body.num_blocks)
    branches = tuple((f"trident/stages_{stage}_{j}",) for j in range(blocks[stage]))
    return (*backbone_layers(body), *branches, ("box/stage",))


FAMILY = Family(
    title="TridentNet",
    summary="R50 on C4",
    module=TridentNet,
    task="detection",
    paper="1901.01892",
    reference="detectron2, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=TwoStageLoss,
    decode=trident_rois,
    layers=_layers,
    head=("params/box/predictor/",),
    constant=("anchors", "proposals"),
    chosen=("proposals", "class_logits", "box_deltas"),
    variants={
        # Not from a paper: for tests, demos and small images.
        "tridentnet_nano": nano_variant(
            **{**NANO_C4, "roi_sampling": FrozenDict({"num": 64})}, test_branch=None
        ),
        "tridentnet_resnet50_c4": variant(
            parity="1e-6, detectron2",
            **{
                **C4,
                "proposal_fields": FrozenDict({**C4["proposal_fields"], "train_kept": 500}),
                "roi_sampling": FrozenDict(
                    {"num": 128, "positive_fraction": 0.5, "add_truth": False}
                ),
            },
        ),
    },
)
