"""PANet in plain PyTorch, with the names of the authors' code: see `panet`."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align


class Affine(nn.Module):
    """A scale and a shift of each feature."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Bottleneck(nn.Module):
    """The stride is that of the first convolution."""

    def __init__(self, in_dim: int, dim: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_dim, dim, 1, stride, bias=False), Affine(dim)
        self.conv2, self.bn2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False), Affine(dim)
        self.conv3, self.bn3 = nn.Conv2d(dim, 4 * dim, 1, bias=False), Affine(4 * dim)
        self.downsample = None
        if in_dim != 4 * dim:
            shortcut = nn.Conv2d(in_dim, 4 * dim, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, Affine(4 * dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class Body(nn.Module):
    def __init__(self, stem: int, stages: tuple[int, ...], depths: tuple[int, ...]):
        super().__init__()
        first = OrderedDict(conv1=nn.Conv2d(3, stem, 7, 2, 3, bias=False), bn1=Affine(stem))
        self.res1 = nn.Sequential(first | {"relu": nn.ReLU(), "maxpool": nn.MaxPool2d(3, 2, 1)})
        self.last, before = len(stages) + 1, stem
        for i, (dim, depth) in enumerate(zip(stages, depths, strict=True)):
            blocks = [Bottleneck(before if j == 0 else 4 * dim, dim, 1) for j in range(depth)]
            if i:
                blocks[0] = Bottleneck(before, dim, 2)
            setattr(self, f"res{i + 2}", nn.Sequential(*blocks))
            before = 4 * dim

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.res1(x)]
        for i in range(2, self.last + 1):
            maps.append(getattr(self, f"res{i}")(maps[-1]))
        return maps[1:]


def normed(in_dim: int, dim: int, size: int, stride: int = 1, *, bias: bool = False, relu=False):
    """A convolution with group norm."""
    conv = nn.Conv2d(in_dim, dim, size, stride, size // 2, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(32, dim), *[nn.ReLU()] * relu)


class Neck(nn.Module):
    """The body, the pyramid, and the path from fine to coarse; maps are finest first."""

    def __init__(self, body: nn.Module, dims: tuple[int, ...], dim: int):
        super().__init__()
        self.conv_body, count = body, len(dims)
        self.conv_top = normed(dims[-1], dim, 1)
        laterals = [normed(width, dim, 1) for width in reversed(dims[:-1])]
        self.topdown_lateral_modules = nn.ModuleList(
            [nn.ModuleDict({"conv_lateral": layer}) for layer in laterals]
        )
        self.posthoc_modules = nn.ModuleList([normed(dim, dim, 3) for _ in dims])
        for k, stride in ((1, 2), (2, 1)):
            layers = [normed(dim, dim, 3, stride, bias=True, relu=True) for _ in range(count - 1)]
            setattr(self, f"panet_buttomup_conv{k}_modules", nn.ModuleList(layers))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        *finer, coarsest = self.conv_body(x)
        sums = [self.conv_top(coarsest)]
        for module, level in zip(self.topdown_lateral_modules, reversed(finer), strict=True):
            enlarged = F.interpolate(sums[-1], scale_factor=2, mode="nearest")
            sums.append(module["conv_lateral"](level) + enlarged)
        outputs = [layer(y) for layer, y in zip(self.posthoc_modules, sums, strict=True)]
        finest, *coarser = reversed(outputs)
        maps = [finest]
        for i, level in enumerate(coarser):
            y = self.panet_buttomup_conv1_modules[i](maps[-1]) + level
            maps.append(self.panet_buttomup_conv2_modules[i](y))
        return [*maps, maps[-1][:, :, ::2, ::2]]


def fused(layers: nn.ModuleList, pooled: list[torch.Tensor]) -> torch.Tensor:
    """The largest value of each feature after the first layer of each level."""
    found = [layer(x) for layer, x in zip(layers, pooled, strict=True)]
    return torch.stack(found).amax(dim=0)


def stacked(count: int, dim: int) -> nn.Sequential:
    """Convolutions with norm and ReLU, as one sequence."""
    layers = [layer for _ in range(count) for layer in normed(dim, dim, 3, relu=True)]
    return nn.Sequential(*layers)


class PANet(nn.Module):
    def __init__(
        self,
        body: nn.Module,
        dims: tuple[int, ...],
        dim: int,
        *,
        classes: int,
        head_dim: int,
        mask_dim: int,
        dense: int,
        sizes: tuple[int, int],
        convs: int,
    ):
        super().__init__()
        self.sizes, last = sizes, mask_dim
        self.Conv_Body = Neck(body, dims, dim)
        self.RPN = nn.ModuleDict(
            {
                "FPN_RPN_conv": nn.Conv2d(dim, dim, 3, padding=1),
                "FPN_RPN_cls_score": nn.Conv2d(dim, 3, 1),
                "FPN_RPN_bbox_pred": nn.Conv2d(dim, 12, 1),
            }
        )
        self.Box_Head = nn.ModuleDict(
            {
                "conv1_head": nn.ModuleList([normed(dim, head_dim, 3, relu=True) for _ in dims]),
                "convs": stacked(convs - 1, head_dim),
                "fc": nn.Linear(head_dim * sizes[0] ** 2, dense),
            }
        )
        self.Box_Outs = nn.ModuleDict(
            {
                "cls_score": nn.Linear(dense, classes + 1),
                "bbox_pred": nn.Linear(dense, 4 * (classes + 1)),
            }
        )
        self.Mask_Head = nn.ModuleDict(
            {
                "mask_conv1": nn.ModuleList([normed(dim, head_dim, 3, relu=True) for _ in dims]),
                "conv_fcn": stacked(convs - 2, head_dim),
                "mask_conv4": normed(head_dim, last, 3, relu=True),
                "mask_conv4_fc": normed(head_dim, last, 3, relu=True),
                "mask_conv5_fc": normed(last, last // 2, 3, relu=True),
                "mask_fc": nn.Sequential(
                    nn.Linear(last // 2 * sizes[1] ** 2, 4 * sizes[1] ** 2), nn.ReLU()
                ),
                "upconv": nn.ConvTranspose2d(last, last, 2, 2),
            }
        )
        self.Mask_Outs = nn.ModuleDict({"classify": nn.Conv2d(last, classes + 1, 1)})

    def proposals(self, maps: list[torch.Tensor]) -> tuple[list, list]:
        """Logits and deltas of each level, with the anchors of a cell last."""
        shared = [self.RPN["FPN_RPN_conv"](x).relu() for x in maps]
        logits = [self.RPN["FPN_RPN_cls_score"](x).permute(0, 2, 3, 1) for x in shared]
        deltas = [self.RPN["FPN_RPN_bbox_pred"](x).permute(0, 2, 3, 1) for x in shared]
        return [x.flatten(1) for x in logits], [x.reshape(len(x), -1, 4) for x in deltas]

    def pooled(self, maps: list[torch.Tensor], boxes: list[torch.Tensor], size: int) -> list:
        """Every level's features of every region."""
        levels = zip(maps[:-1], (4, 8, 16, 32), strict=False)
        return [roi_align(x, boxes, size, 1 / s, 2, aligned=False) for x, s in levels]

    def classes(
        self, maps: list[torch.Tensor], boxes: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and deltas of regions, the background first."""
        head, outputs = self.Box_Head, self.Box_Outs
        x = head["convs"](fused(head["conv1_head"], self.pooled(maps, boxes, self.sizes[0])))
        x = head["fc"](x.flatten(1)).relu()
        return outputs["cls_score"](x), outputs["bbox_pred"](x).unflatten(1, (-1, 4))

    def masks(self, maps: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
        """Logits of masks, the background's first."""
        head = self.Mask_Head
        x = head["conv_fcn"](fused(head["mask_conv1"], self.pooled(maps, boxes, self.sizes[1])))
        y = head["upconv"](head["mask_conv4"](x)).relu()
        z = head["mask_conv5_fc"](head["mask_conv4_fc"](x)).flatten(1)
        z = head["mask_fc"](z).unflatten(1, (1, 2 * self.sizes[1], 2 * self.sizes[1]))
        return self.Mask_Outs["classify"](y) + z
