"""SPP-net: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.backbones import backbone_layers
from zoo.models.detection.parts.decode import region_rois
from zoo.models.detection.parts.region_loss import RegionLoss
from zoo.models.detection.parts.variants import NANO, proposing_nano, proposing_variant
from zoo.models.detection.sppnet.model import SPPNet
from zoo.models.inputs import padded_images

# The first three stages of the ResNet: their map has the stride of the paper's networks, 16.
_C4 = {"num_blocks": (3, 4, 6), "stage_dims": (64, 128, 256)}
_VARIANTS = {
    # Not from the paper: for tests, demos and small images.
    "sppnet_nano": proposing_nano(
        backbone_fields=NANO["backbone_fields"],
        scales=(1.0, 2.0),
        canonical_size=32.0,
        dense_dims=(256,),
        roi_sampling=FrozenDict({"num": 32}),
    ),
    # The paper has ZF-5 and Overfeat-7. Its sides of 480, 576, 688, 864 and 1200 px, as factors.
    "sppnet_resnet50": proposing_variant(
        backbone_fields=FrozenDict(_C4),
        scales=(0.8, 0.96, 1.147, 1.44, 2.0),
        dense_dims=(1024, 1024),
        roi_sampling=FrozenDict({"num": 64}),
    ),
}


FAMILY = Family(
    title="SPP-net",
    summary="R50",
    module=SPPNet,
    task="detection",
    paper="1406.4729",
    reference="the authors' code, for the rounding of boxes",
    inputs=padded_images,
    loss=RegionLoss,
    decode=region_rois,
    layers=lambda model: backbone_layers(model.make_body()),
    head=("params/head/logits/", "params/head/svm/", "params/head/ridge/"),
    constant=("proposals",),
    takes_proposals=True,
    variants=_VARIANTS,
)
