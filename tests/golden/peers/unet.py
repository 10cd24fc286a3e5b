"""Goldens of the paper's U-Net, which is defined here in torch, and of its usual variants."""

import numpy as np
import torch

from peers.draws import images, randomise, save


class TorchUNet(torch.nn.Module):
    """The U-Net in figure 1 of the paper, and its usual variants."""

    def __init__(self, depth: int, dim: int, classes: int, padding: str, bilinear: bool, norm: str):
        super().__init__()
        self.padding, self.bilinear, self.norm = padding, bilinear, norm
        dims = [dim * 2**i for i in range(depth + 1)]
        self.down = torch.nn.ModuleList(
            self.block(3 if i == 0 else d // 2, d) for i, d in enumerate(dims)
        )
        self.up = torch.nn.ModuleList(self.block(2 * d, d) for d in dims[:-1])
        up_conv = self.interpolating if bilinear else self.transposed
        self.upsample = torch.nn.ModuleList(up_conv(2 * d, d) for d in dims[:-1])
        self.head = torch.nn.Conv2d(dim, classes, 1)

    def block(self, inputs: int, outputs: int) -> torch.nn.Sequential:
        norms = {"batch": torch.nn.BatchNorm2d, "group": lambda d: torch.nn.GroupNorm(d, d)}
        layers = []
        for d in (inputs, outputs):
            layers.append(
                torch.nn.Conv2d(d, outputs, 3, padding=self.padding, bias=self.norm == "none")
            )
            layers += [norms[self.norm](outputs)] if self.norm in norms else []
            layers.append(torch.nn.ReLU())
        return torch.nn.Sequential(*layers)

    def transposed(self, inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.ConvTranspose2d(inputs, outputs, 2, stride=2)

    def interpolating(self, inputs: int, outputs: int) -> torch.nn.Module:
        larger = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        return torch.nn.Sequential(larger, torch.nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        copied = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else torch.nn.functional.max_pool2d(x, 2))
            copied.append(x)
        for i in reversed(range(len(self.up))):
            x = self.upsample[i](x)
            cut = [(a - b) // 2 for a, b in zip(copied[i].shape, x.shape, strict=True)]
            skip = copied[i][:, :, cut[2] : cut[2] + x.shape[2], cut[3] : cut[3] + x.shape[3]]
            x = self.up[i](torch.cat([skip, x], dim=1))
        return self.head(x)

    def zoo_weights(self) -> dict[str, np.ndarray]:
        """The weights under the zoo's names and in its layouts."""
        weights = {}
        for part in ("down", "up"):
            for i, block in enumerate(getattr(self, part)):
                layers = [layer for layer in block if next(layer.parameters(), None) is not None]
                kinds = (
                    ["conv1", "conv2"]
                    if self.norm == "none"
                    else ["conv1", "norm1", "conv2", "norm2"]
                )
                for kind, layer in zip(kinds, layers, strict=True):
                    weights |= self._leaves(f"{part}_{i}/{kind}", layer)
        for i, layer in enumerate(self.upsample):
            if self.bilinear:
                weights |= self._leaves(f"upsample_{i}/proj", layer[1], dense=True)
            else:
                kernel = layer.weight.permute(0, 2, 3, 1).flatten(1)  # [c, 2 * 2 * d]
                weights[f"params/upsample_{i}/proj/kernel"] = kernel
                weights[f"params/upsample_{i}/bias"] = layer.bias
        weights |= self._leaves("head", self.head, dense=True)
        return {name: x.detach().contiguous().numpy() for name, x in weights.items()}

    def _leaves(self, path: str, layer: torch.nn.Module, dense: bool = False) -> dict:
        state = layer.state_dict()
        if "norm" in path:
            leaves = {f"params/{path}/scale": state["weight"]}
            if self.norm == "batch":
                leaves[f"batch_stats/{path}/mean"] = state["running_mean"]
                leaves[f"batch_stats/{path}/var"] = state["running_var"]
        else:
            kernel = state["weight"].permute(2, 3, 1, 0)
            leaves = {f"params/{path}/kernel": kernel[0, 0] if dense else kernel}
        return leaves | ({f"params/{path}/bias": state["bias"]} if "bias" in state else {})


def goldens() -> None:
    """Goldens of the paper's form, and of the same-padded form with each norm and upsampling."""
    for padding, upsampling, norm, size in (
        ("valid", "transposed", "none", (52, 44)),
        ("same", "bilinear", "batch", (12, 20)),
        ("same", "transposed", "group", (12, 20)),
    ):
        fields = {"depth": 2, "base_dim": 4, "padding": padding, "upsampling": upsampling}
        fields |= {"norm": norm, "num_classes": 3}
        model = randomise(TorchUNet(2, 4, 3, padding, upsampling == "bilinear", norm))
        weights, case = model.zoo_weights(), f"unet_torch_{padding}_{norm}"
        save(case, "unet", fields, model, images(*size), weights, source="zoo")


def models() -> dict[str, torch.nn.Module]:
    """The torch model for each of our names; their parameters are counted."""
    return {
        "unet": TorchUNet(4, 64, 2, "valid", False, "none"),
        "unet_same": TorchUNet(4, 64, 2, "same", False, "batch"),
        "unet_nano": TorchUNet(2, 32, 2, "same", False, "batch"),
    }
