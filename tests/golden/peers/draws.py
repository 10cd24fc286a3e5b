"""What every golden is made with: drawn weights, drawn images, one way to write them."""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent.parent


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Every weight and statistic drawn, so that no part of the model is an identity.

    Multiples of 1 / 16, which compress well.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.2)
            if tensor.is_floating_point():
                tensor.mul_(16).round_().div_(16)
    return model.eval()


def images(height: int, width: int) -> torch.Tensor:
    """Three images, NCHW."""
    return torch.randn(3, 3, height, width).mul(16).round().div(16)


def outputs_of(output) -> torch.Tensor:
    """A model's logits, or what stands for them in a transformers model without a head."""
    output = getattr(output, "pooler_output", output)
    output = getattr(output, "logits", output)
    return output.permute(0, 2, 3, 1) if output[0, 0].numel() > 1 else output.flatten(1)


def save(
    case: str,
    name: str,
    fields: dict,
    model: torch.nn.Module,
    x: torch.Tensor,
    weights: dict | None = None,
    **more,
) -> None:
    """Writes one golden; `weights` if not the state dict; `more` are further outputs."""
    with torch.no_grad():
        output = model(x)
    weights = model.state_dict() if weights is None else weights
    arrays = {f"weights/{k}": np.asarray(v) for k, v in weights.items()}
    np.savez_compressed(
        HERE / f"{case}.npz",
        config=json.dumps({"name": name, "fields": fields}),
        images=x.permute(0, 2, 3, 1).numpy(),
        logits=outputs_of(output).numpy(),
        **{k: v.detach().numpy() for k, v in more.items()},
        **arrays,
    )
