"""Shared by the goldens of CenterNet made by the authors' code; `centernet` says what they need."""

import copy
import types
from unittest import mock

import numpy as np
import torch
from torch import nn

from peers.checkouts import centernet
from peers.draws import randomise

CLASSES, MOST, SIDES = 5, 12, (32, 64)
LEVELS = (4, 4, 4, 6, 6, 8)
DEPTHS = (1, 1, 1, 1, 2, 1)


def narrow_dla(heads: dict[str, int], hidden: int = 6, reach: float = 0.5) -> nn.Module:
    """The authors' DLA with few features and these heads, and drawn weights.

    Args:
        heads: Name and features of each.
        hidden: Features of the convolutions of the heads.
        reach: Factor of the offsets of deformable convolutions. If these are large, places change
            so much with the features that rounding grows from layer to layer.
    """
    code = centernet()

    def base(pretrained: bool) -> nn.Module:
        model = code.dla.DLA(list(DEPTHS), list(LEVELS), block=code.dla.BasicBlock)
        model.level4.project = None  # nothing uses its result
        return model

    with mock.patch.object(code.dla, "dla34", base):
        model = code.dla.DLASeg("dla34", heads, True, 4, 1, 5, hidden)
    return draw_weights(model, reach)


def narrow_resnet(heads: dict[str, int], hidden: int = 6) -> nn.Module:
    """The authors' ResNet with few features, one block in each stage, and drawn weights."""
    code = centernet()

    class Narrow(code.resnet.PoseResNet):
        def _make_layer(self, block, planes, blocks, stride=1):
            if planes == 64:
                self.inplanes = 4
                self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
            return super()._make_layer(block, planes // 16, blocks, stride)

        def _make_deconv_layer(self, num_layers, num_filters, num_kernels):
            return super()._make_deconv_layer(3, [8, 8, 8], num_kernels)

    model = Narrow(code.resnet.BasicBlock, [1] * 4, heads, hidden)
    for name, dim in heads.items():
        layers = nn.Conv2d(8, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, dim, 1)
        setattr(model, name, nn.Sequential(*layers))
    return draw_weights(model)


def narrow_hourglass(heads: dict[str, int], dims: list[int], blocks: list[int]) -> nn.Module:
    """The authors' two hourglasses with few features and levels, and drawn weights."""
    code, dim = centernet().hourglass, dims[0]
    before = nn.Sequential(
        code.convolution(7, 3, dim // 2, stride=2), code.residual(3, dim // 2, dim, stride=2)
    )
    layers = {"pre": before, "make_hg_layer": code.make_hg_layer, "kp_layer": code.residual}
    return draw_weights(code.exkp(len(dims) - 1, 2, dims, blocks, heads, cnv_dim=8, **layers))


@torch.no_grad()
def draw_weights(model: nn.Module, reach: float = 0.5) -> nn.Module:
    """Random weights, and statistics near those of the maps, so that outputs are near 1."""
    randomise(model)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.abs_().add_(0.5)
        norm.momentum = 1.0
    for name, parameter in model.named_parameters():
        if "conv_offset" in name:
            parameter.mul_(reach)
    model.train()
    model(torch.randn(2, 3, *SIDES))
    for norm in norms:
        norm.running_mean.add_(0.2 * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.5, 2))
        for statistic in (norm.running_mean, norm.running_var):
            statistic.mul_(64).round_().div_(64)
        norm.running_var.clamp_(min=1 / 64)
    return model.eval()


def precise(model: nn.Module) -> nn.Module:
    """A copy that computes in float64."""
    return copy.deepcopy(model).double().eval()


def sample(
    dataset: type,
    objects: list[dict],
    num_classes: int,
    sides: tuple[int, int] = SIDES,
    split: str = "val",
    max_objs: int = 4,
    **more,
) -> dict[str, np.ndarray]:
    """The authors' targets for the annotations of one image.

    Args:
        dataset: The class of theirs that makes them.
        objects: COCO annotations.
        num_classes: Number of classes; category ids are labels.
        sides: Height and width of the image.
        split: ``val``, so that images are not augmented.
        max_objs: Number of objects in the arrays.
        **more: Further attributes of the data set.
    """
    api = types.SimpleNamespace(
        loadImgs=lambda ids: [{"file_name": "", "calib": more.get("calib")}],
        getAnnIds=lambda imgIds: range(len(objects)),
        loadAnns=lambda ids: objects,
    )
    options = {
        **dict.fromkeys(("keep_res", "mse_loss", "dense_wh", "cat_spec_wh", "dense_hp"), False),
        **dict.fromkeys(("reg_offset", "hm_hp", "reg_hp_offset", "reg_bbox"), True),
        **{
            "debug": 0,
            "num_classes": num_classes,
            "rect_mask": False,
            "down_ratio": 4,
            "input_h": sides[0],
            "input_w": sides[1],
            "pad": 31,
        },
        **{"output_h": sides[0] // 4, "output_w": sides[1] // 4, "input_res": max(sides)},
        **{"output_res": max(sides) // 4, "rotate": 0, "flip": 0.0, "hm_gauss": 0},
    }
    self = types.SimpleNamespace(
        coco=api,
        images=[0],
        img_dir="",
        max_objs=max_objs,
        num_classes=num_classes,
        cat_ids={i: i for i in range(num_classes)},
        mean=0.0,
        std=1.0,
        split=split,
        opt=types.SimpleNamespace(**options),
        **more,
    )
    for name in ("_coco_box_to_bbox", "_get_border", "_convert_alpha", "_alpha_to_8"):
        if hasattr(dataset, name):
            setattr(self, name, getattr(dataset, name).__get__(self))
    image = np.zeros((*sides, 3), np.uint8)
    with mock.patch("cv2.imread", lambda path: image):
        return dataset.__getitem__(self, 0)


def stacked(samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """The targets of a batch."""
    keys = [key for key in samples[0] if key not in ("input", "meta")]
    return {key: torch.tensor(np.stack([one[key] for one in samples])) for key in keys}


def loss_l1(code: types.SimpleNamespace, found, batch: dict, mask: str, index: str, key: str):
    """The authors' mean absolute error; masks of numbers have the shape of what they mask."""
    kind = code.losses.RegL1Loss if batch[mask].ndim == 2 else code.losses.RegWeightedL1Loss
    return kind()(found.double(), batch[mask], batch[index], batch[key].double())


def heat_loss(code: types.SimpleNamespace, logits: torch.Tensor, wanted: torch.Tensor):
    """The authors' focal loss."""
    return code.losses.FocalLoss()(code.utils._sigmoid(logits.clone()), wanted.double())


def as_ours(x: torch.Tensor) -> torch.Tensor:
    """NHWC."""
    return x.permute(0, 2, 3, 1)
