"""CenterNet for people: see `model`."""

from zoo.family import Family
from zoo.models.detection.centernet_pose.decode import decode
from zoo.models.detection.centernet_pose.loss import CenterNetPoseLoss
from zoo.models.detection.centernet_pose.model import CenterNetPose
from zoo.models.detection.parts.centre_names import AUTHORS
from zoo.models.detection.parts.centre_variants import (
    DLA,
    HOURGLASS,
    centre_layers,
    centre_nano,
    centre_variant,
)
from zoo.models.inputs import padded_images

FAMILY = Family(
    title="CenterNet for people",
    summary="DLA-34, Hourglass-104",
    module=CenterNetPose,
    task="detection",
    paper="1904.07850",
    reference="the authors' code",
    inputs=padded_images,
    names=(AUTHORS,),
    loss=CenterNetPoseLoss,
    decode=decode,
    layers=centre_layers,
    learns=lambda _: ("keypoints",),
    head=tuple(
        f"params/head_{i}/{name}/out/"
        for i in range(2)
        for name in ("heat_logits", "joints", "joint_heat_logits")
    ),
    variants={
        # Not from the paper: for tests, demos and small images.
        "centernet_pose_nano": centre_nano(),
        "centernet_pose_dla34": centre_variant(**DLA),
        "centernet_pose_hourglass104": centre_variant(**HOURGLASS),
    },
)
