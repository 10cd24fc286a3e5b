"""Names of timm, torchvision, Hugging Face transformers, detectron2 and mmdet for ResNet.

The tensors of timm, torchvision and mmdet have the same names. Images are prepared as in timm,
unless the file is named like one of torchvision's, such as ``resnet50-0676ba61.pth``, or the caller
says what the source is.

A file of detectron2 or mmdet does not say whether its images have the channels blue, green and red;
the architecture does. Networks with `stride_in_1x1` were trained by the paper's authors, in Caffe,
on such images of 0..255, without a division by standard deviations; ResNeXts in detectron2 on such
images with that division. All others are trained as torchvision's. We always take red, green and
blue: the first convolution's weights are reordered.
"""

import dataclasses
import re
from functools import partial

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.types import Preprocessing
from zoo.weights.maps import BATCH_COUNTERS, CONV, CONV_OF_BGR, batch_norm, conv, dense


def timm(model: nn.Module, *, of_bgr: bool = False) -> tuple[Rule, ...]:
    """Rules for `ResNet`; torchvision's and mmdet's have the same names."""
    stages = []
    for i in range(len(model.num_blocks)):
        theirs, ours = f"layer{i + 1}.{{j}}", f"stages_{i}_{{j}}"
        for k in (1, 2, 3):
            stages += conv(f"{theirs}.conv{k}", f"{ours}/conv{k}")
            stages += batch_norm(f"{theirs}.bn{k}", f"{ours}/norm{k}")
        stages += conv(f"{theirs}.downsample.0", f"{ours}/shortcut_conv")
        stages += batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_norm")
    return (
        *conv("conv1", "stem_conv", CONV_OF_BGR if of_bgr else CONV),
        *batch_norm("bn1", "stem_norm"),
        *stages,
        *dense("fc", "head"),
    )


def mmdet(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `ResNet`, of the style ``caffe`` or ``pytorch``."""
    return timm(model, of_bgr=model.stride_in_1x1)


def detectron2(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `ResNet` with a `BasicStem`."""
    stages = []
    for i in range(len(model.num_blocks)):
        theirs, ours = f"res{i + 2}.{{j}}", f"stages_{i}_{{j}}"
        parts = {f"conv{k}": (f"conv{k}", f"norm{k}") for k in (1, 2, 3)}
        parts["shortcut"] = ("shortcut_conv", "shortcut_norm")
        for part, (conv_name, norm_name) in parts.items():
            stages += conv(f"{theirs}.{part}", f"{ours}/{conv_name}")
            stages += batch_norm(f"{theirs}.{part}.norm", f"{ours}/{norm_name}")
    of_bgr = model.stride_in_1x1 or model.num_groups > 1
    return (
        *conv("stem.conv1", "stem_conv", CONV_OF_BGR if of_bgr else CONV),
        *batch_norm("stem.conv1.norm", "stem_norm"),
        *stages,
        *dense("linear", "head"),
    )


def huggingface(model: nn.Module, prefix: str) -> tuple[Rule, ...]:
    """Rules for `ResNetModel` or `ResNetForImageClassification`."""

    def layer(theirs: str, conv_name: str, norm_name: str) -> tuple[Rule, ...]:
        return (
            *conv(f"{prefix}{theirs}.convolution", conv_name),
            *batch_norm(f"{prefix}{theirs}.normalization", norm_name),
        )

    count = 3 if model.block == "bottleneck" else 2
    theirs, ours = "encoder.stages.{i}.layers.{j}", "stages_{i}_{j}"
    layers = [
        layer(f"{theirs}.layer.{k}", f"{ours}/conv{k + 1}", f"{ours}/norm{k + 1}")
        for k in range(count)
    ]
    return (
        *layer("embedder.embedder", "stem_conv", "stem_norm"),
        *(entry for rules in layers for entry in rules),
        *layer(f"{theirs}.shortcut", f"{ours}/shortcut_conv", f"{ours}/shortcut_norm"),
        *dense("classifier.1", "head"),
    )


_TORCHVISION_FILE = re.compile(
    r"(resnet(18|34|50|101|152)|resnext(50_32x4d|101_32x8d))-[0-9a-f]{8}\.\w+"
)
# Parts of the files' names: of resnet50, 101, 152, resnext50 and 101.
_TORCHVISION_V2 = ("11ad3fa6", "cd907fc2", "f82ba261", "1a0047aa", "110c445d")


def _prepared_by_name(model: nn.Module, file: str) -> Preprocessing | None:
    """As in torchvision if the file has a name of theirs; else as for the variant, as in timm."""
    return _torchvision(model, file) if _TORCHVISION_FILE.fullmatch(file) else None


def _torchvision(model: nn.Module, file: str) -> Preprocessing:
    """The transforms of torchvision's weights: version 1, unless the file's name says 2."""
    resized = 232 if any(digest in file for digest in _TORCHVISION_V2) else 256
    return Preprocessing((224, 224), interpolation="bilinear", crop_fraction=224 / resized)


def _by_architecture(model: nn.Module, file: str) -> Preprocessing:
    """Pixels of 0..255 less the mean if the network is the paper's; else as in torchvision."""
    how = Preprocessing((224, 224), interpolation="bilinear")
    return dataclasses.replace(how, std=(1 / 255,) * 3) if model.stride_in_1x1 else how


def _huggingface(model: nn.Module, file: str) -> Preprocessing:
    """The `ConvNextImageProcessor` of microsoft/resnet-50 and similar models."""
    return Preprocessing((224, 224), interpolation="bicubic", crop_fraction=0.875)


NAMES = (
    NameMap("timm", timm, BATCH_COUNTERS, preprocessing=_prepared_by_name),
    NameMap("torchvision", timm, BATCH_COUNTERS, preprocessing=_torchvision),
    *(
        NameMap(
            "huggingface",
            partial(huggingface, prefix=prefix),
            BATCH_COUNTERS,
            preprocessing=_huggingface,
            wrapped=bool(prefix),
        )
        for prefix in ("resnet.", "")
    ),
    NameMap("detectron2", detectron2, BATCH_COUNTERS, preprocessing=_by_architecture),
    NameMap("mmdet", mmdet, BATCH_COUNTERS, preprocessing=_by_architecture),
)
