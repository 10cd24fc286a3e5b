"""R-CNN: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.backbones import backbone_layers
from zoo.models.detection.parts.decode import region_rois
from zoo.models.detection.parts.region_loss import RegionLoss
from zoo.models.detection.parts.variants import NANO, proposing_nano, proposing_variant
from zoo.models.detection.rcnn.model import RCNN
from zoo.models.inputs import padded_images

_VARIANTS = {
    # Not from the paper: for tests, demos and small images.
    "rcnn_nano": proposing_nano(
        backbone_fields=NANO["backbone_fields"],
        crop_size=40,
        pool_size=None,
        dense_dims=(256,),
        chunk=50,
        roi_sampling=FrozenDict({"num": 8}),
    ),
    # The paper has AlexNet and VGG-16, whose features are those of dense layers.
    "rcnn_resnet50": proposing_variant(roi_sampling=FrozenDict({"num": 64})),
}


FAMILY = Family(
    title="R-CNN",
    summary="R50",
    module=RCNN,
    task="detection",
    paper="1311.2524",
    reference="the authors' code, for the warp of regions",
    inputs=padded_images,
    loss=RegionLoss,
    decode=region_rois,
    layers=lambda model: backbone_layers(model.make_body()),
    head=("params/head/logits/", "params/head/svm/", "params/head/ridge/"),
    constant=("proposals",),
    takes_proposals=True,
    variants=_VARIANTS,
)
