"""Shared by all goldens: random weights, random images, and functions that write goldens."""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent.parent


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Makes every weight and statistic random, so that no part of the model is an identity.

    The values are multiples of 1 / 16, which compress well.
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
    """Three random images, NCHW."""
    return torch.randn(3, 3, height, width).mul(16).round().div(16)


def outputs_of(output) -> torch.Tensor:
    """The logits of a model; for a transformers model without a head its pooled output."""
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
    *,
    source: str,
    tolerance: float | None = None,
    **more,
) -> None:
    """Writes the golden of a model of images.

    Args:
        case: Name of the file: FAMILY_SOURCE_CASE.
        name: Name of our model.
        fields: Fields of our model that differ from those of the name.
        model: The peer's model.
        x: Images, NCHW.
        weights: The checkpoint; by default the state dict of `model`.
        source: The source whose names the weights have.
        tolerance: See `write`.
        **more: Further outputs, each under the name of the method of our model that gives it.
    """
    with torch.no_grad():
        output = model(x)
    write(
        case,
        {"name": name, "fields": fields, "source": source},
        {"images": x.permute(0, 2, 3, 1)},
        {"logits": outputs_of(output), **more},
        model.state_dict() if weights is None else weights,
        tolerance=tolerance,
    )


def write(
    case: str,
    config: dict,
    inputs: dict,
    outputs: dict,
    weights: dict,
    *,
    tolerance: float | None = None,
    where: str | None = None,
) -> None:
    """Writes a golden.

    Args:
        case: Name of the file: FAMILY_SOURCE_CASE.
        config: `name` and `fields` of our model, and the `source` whose names the weights have.
        inputs: The inputs of the model, in the order of its call.
        outputs: The peer's outputs under our names. A name with a / is not an output of the model;
            the tests of the family use it.
        weights: The checkpoint.
        tolerance: The largest allowed difference; by default 1e-5 of the largest output value.
        where: Name of the boolean input that is True where outputs are compared; by default they
            are compared everywhere.
    """
    config = {**config, "inputs": list(inputs)}
    config |= {"where": where} if where else {}
    config |= {"tolerance": tolerance} if tolerance else {}
    arrays = {**inputs, **outputs, **{f"weights/{name}": x for name, x in weights.items()}}
    arrays = {
        name: x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        for name, x in arrays.items()
    }
    np.savez_compressed(HERE / f"{case}.npz", config=json.dumps(config), **arrays)


def count(model: torch.nn.Module) -> int:
    """The number of parameters, with the scales and biases of frozen norms (buffers in torch)."""
    frozen = [x for name, x in model.named_buffers() if name.endswith(("weight", "bias"))]
    return sum(x.numel() for x in (*model.parameters(), *frozen))
