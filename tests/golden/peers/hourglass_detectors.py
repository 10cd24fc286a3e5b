"""CornerNet and ExtremeNet at full size, for `check_parity`."""

import numpy as np
import torch

from peers import cornernet, extremenet


def full_size(name: str, side: int):
    """A peer's whole network with drawn weights, and a function that saves it as its authors do.

    Args:
        name: Of our model.
        side: Of the images that `run_full_size` draws.
    """
    module = extremenet if name.startswith("extremenet") else cornernet
    network = module.models()[name]
    images = torch.randn(2, 3, side, side)
    cornernet.lively(network, images, module.maps)
    state = {f"module.{k}": x for k, x in network.state_dict().items()}
    return network, lambda path: torch.save(state, path / "model.pth")


def run_full_size(model: torch.nn.Module, side: int) -> dict[str, np.ndarray]:
    """Images of a side that needs no padding, and the maps in float64, under our names."""
    x = torch.randn(1, 3, side, side)
    model, images = model.double(), x.flip(1).double()
    with torch.no_grad():
        module = cornernet if hasattr(model, "tl_cnvs") else extremenet
        found = module.arranged(module.maps(model, images))
    found = {name: y.float().numpy() for name, y in found.items()}
    return {"images": x.permute(0, 2, 3, 1).numpy(), **found}
