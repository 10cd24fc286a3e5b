"""Imports a few files of projects that are not installed, from checkouts of their code.

Only what these files need is imported: the packages' own ``__init__`` files, which need many other
packages, are not run.
"""

import importlib
import os
import sys
import types
from functools import partial
from unittest import mock

import torch


def _package(name: str, root: str) -> types.ModuleType:
    """An empty package whose modules are found in a folder of a checkout."""
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [os.path.join(root, *name.split("."))]
    return package


def detectron2_backbones() -> None:
    """Makes `detectron2.modeling.backbone.{resnet,fpn}` importable from a checkout, $DETECTRON2."""
    if "detectron2" in sys.modules:
        return
    for name in ("nn", "nn.weight_init", "nn.distributed", "common", "common.registry"):
        sys.modules[f"fvcore.{name}"] = mock.MagicMock()
    sys.modules["fvcore"] = mock.MagicMock()
    packages = ("", ".layers", ".modeling", ".modeling.backbone", ".utils")
    for name in packages:
        _package(f"detectron2{name}", os.environ["DETECTRON2"])
    layers = sys.modules["detectron2.layers"]
    layers.DeformConv = layers.ModulatedDeformConv = None  # need compiled code
    files = {
        "batch_norm": ("get_norm", "FrozenBatchNorm2d"),
        "wrappers": ("Conv2d",),
        "blocks": ("CNNBlockBase",),
        "shape_spec": ("ShapeSpec",),
    }
    for file, names in files.items():
        module = importlib.import_module(f"detectron2.layers.{file}")
        vars(layers).update({name: getattr(module, name) for name in names})


def detectron2_whole() -> None:
    """Makes all of detectron2 importable from a checkout, $DETECTRON2, with the packages it needs.

    What `detectron2_backbones` put in their places is removed.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in ("detectron2", "fvcore"):
            del sys.modules[name]
    if os.environ["DETECTRON2"] not in sys.path:
        sys.path.insert(0, os.environ["DETECTRON2"])


class ConvModule(torch.nn.Module):
    """What mmcv's class of this name does for convolutions that a norm may follow."""

    def __init__(
        self, in_dim: int, dim: int, size: int, *, norm_cfg: dict | None, act_cfg=None, **options
    ):
        super().__init__()
        assert act_cfg is None
        options = {name: options[name] for name in ("stride", "padding") if name in options}
        self.conv = torch.nn.Conv2d(in_dim, dim, size, bias=norm_cfg is None, **options)
        if norm_cfg is not None:
            self.bn = torch.nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.bn(x) if hasattr(self, "bn") else x


class BaseModule(torch.nn.Module):
    """mmengine's class of this name, without its initialisation of weights."""

    def __init__(self, init_cfg: object = None):
        super().__init__()


def mmdet_necks() -> None:
    """Makes `mmdet.models.necks.{fpn,pafpn}` importable from a folder with mmdet's code, $MMDET."""
    if "mmdet" in sys.modules:
        return
    registry = types.SimpleNamespace(register_module=lambda: lambda kind: kind)
    stands = {
        "mmcv": {},
        "mmcv.cnn": {"ConvModule": ConvModule},
        "mmengine": {},
        "mmengine.model": {"BaseModule": BaseModule},
        "mmdet.registry": {"MODELS": registry},
        "mmdet.utils": dict.fromkeys(("ConfigType", "MultiConfig", "OptConfigType"), dict),
    }
    for name in ("mmdet", "mmdet.models", "mmdet.models.necks"):
        _package(name, os.environ["MMDET"])
    for name, content in stands.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)


def mmdet_whole() -> types.ModuleType:
    """The installed mmdet; what `mmdet_necks` put in its place is removed."""
    if not hasattr(sys.modules.get("mmdet"), "__version__"):
        for name in list(sys.modules):
            if name.partition(".")[0] in ("mmdet", "mmcv", "mmengine", "mmdet_peer"):
                del sys.modules[name]
        importlib.import_module("mmdet_peer")  # stands in for mmcv's compiled operators
    importlib.import_module("mmdet.models")
    return importlib.import_module("mmdet")


def keypoint_networks(checkout: str) -> types.ModuleType:
    """The package `models.py_utils` of a checkout of CornerNet or ExtremeNet.

    Its compiled corner pools are replaced by running maxima, and its drawing by nothing. The same
    names are in both checkouts: what was imported from the other one is forgotten.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in ("models", "utils", "config"):
            del sys.modules[name]
    for name, axis, reverse in (
        ("top", 2, True),
        ("left", 3, True),
        ("bottom", 2, False),
        ("right", 3, False),
    ):
        sys.modules[f"{name}_pool"] = stand = types.ModuleType(name)
        stand.forward = partial(_running_maximum, axis=axis, reverse=reverse)
    sys.modules["utils"] = sys.modules["utils.debugger"] = mock.MagicMock()
    _package("models", checkout)
    return importlib.import_module("models.py_utils")


def _running_maximum(x: torch.Tensor, *, axis: int, reverse: bool) -> list[torch.Tensor]:
    """What `<direction>_pool.forward` gives."""
    if not reverse:
        return [x.cummax(axis).values]
    return [x.flip(axis).cummax(axis).values.flip(axis)]


class _DeformableFunction:
    """What the authors' compiled function of this name computes, forward only."""

    def __init__(self, stride: int, padding: int, dilation: int, groups: int):
        self.fields = (stride,) * 2, (padding,) * 2, (dilation,) * 2, 1, groups

    def __call__(self, x, offset, mask, weight, bias) -> torch.Tensor:
        deform = importlib.import_module("mmdet_peer")._deform
        return deform(x, weight, offset, mask, *self.fields) + bias.view(1, -1, 1, 1)


def centernet() -> types.SimpleNamespace:
    """The modules of a checkout of the authors' CenterNet, $CENTERNET, that need no compiler."""
    root = os.path.join(os.environ["CENTERNET"], "src", "lib")
    for name in ("models", "models.networks", "models.networks.DCNv2", "utils", "datasets"):
        _package(name, root)
    stand = types.ModuleType("models.networks.DCNv2.dcn_v2_func")
    stand.DCNv2Function, stand.DCNv2PoolingFunction = _DeformableFunction, None
    sys.modules[stand.__name__] = stand
    names = {
        "dla": "models.networks.pose_dla_dcn",
        "resnet": "models.networks.resnet_dcn",
        "hourglass": "models.networks.large_hourglass",
        "decode": "models.decode",
        "losses": "models.losses",
        "utils": "models.utils",
        "image": "utils.image",
        "post_process": "utils.post_process",
        "boxes": "datasets.sample.ctdet",
        "pose": "datasets.sample.multi_pose",
        "solid": "datasets.sample.ddd",
    }
    return types.SimpleNamespace(**{k: importlib.import_module(v) for k, v in names.items()})
