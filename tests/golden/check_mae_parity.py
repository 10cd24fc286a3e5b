"""Compares MAE at full size with Hugging Face's `ViTMAEForPreTraining`, for the same mask.

Too large for the tests. Run it by hand on a machine with both environments, in two steps:

    PYTHONPATH=../shared/peers PEERS_PYTHON tests/golden/check_mae_parity.py write DIR
    PYTHONPATH=. PYTHON tests/golden/check_mae_parity.py read DIR

`write` draws all weights and positions from a fresh seed. It saves the base model with
`save_pretrained`, its predictions, its mask, and its losses with and without normalised patches.
`read` loads the file with `zoo.load`, and fails if a prediction differs by more than 2e-4 or a loss
by more than 1e-5 of its value. It also saves the model in Hugging Face's names and loads it again.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

NAME = "mae_vit_base_patch16"


def write(folder: Path) -> None:
    """Saves the peer's model and its outputs."""
    importlib.import_module("reference")  # transformers then imports with a CPU build of torch
    import torch
    import transformers

    seed = torch.seed()
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig()).eval()
    images, noise = torch.randn(2, 3, 224, 224), torch.rand(2, 196)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            drawn = 0.02 * torch.randn_like(tensor)
            tensor.add_(drawn if tensor.ndim > 1 else 5 * drawn)
        plain = model(images, noise=noise)
        model.config.norm_pix_loss = True
        normalised = model(images, noise=noise)
    model.save_pretrained(folder)
    np.savez(
        folder / "outputs.npz",
        images=images.permute(0, 2, 3, 1).numpy(),
        visible=plain.mask.numpy() == 0,
        patches=plain.logits.numpy(),
        loss=plain.loss.numpy(),
        loss_normalised=normalised.loss.numpy(),
        seed=seed,
    )


def read(folder: Path) -> bool:
    """Compares the models, and prints one JSON line."""
    import jax

    import zoo
    from zoo.losses.reconstruction import reconstruction_loss
    from zoo.ops.patches import patchify

    outputs = np.load(folder / "outputs.npz")
    model, variables, report = zoo.load_with_report(NAME, folder / "model.safetensors")
    images, visible = outputs["images"], outputs["visible"]
    found = jax.jit(model.apply)(variables, images, visible).patches
    difference = float(np.abs(found - outputs["patches"]).max())
    losses = {}
    for name, norm_pix_loss in (("loss", False), ("loss_normalised", True)):
        patches = patchify(images, 16)
        loss = reconstruction_loss(found, patches, visible, norm_pix_loss=norm_pix_loss)
        losses[name] = abs(float(loss) / float(outputs[name]) - 1)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        back = Path(temporary) / "back.safetensors"
        zoo.save(model, variables, back, source="huggingface")
        again = zoo.load(back)[1]
    exact = jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), variables, again))
    passed = difference <= 2e-4 and max(losses.values()) <= 1e-5 and exact
    figures = {"found": report.source, "difference": difference, "relative": losses}
    figures |= {"scale": float(np.abs(outputs["patches"]).max()), "exact_round_trip": exact}
    print(json.dumps(figures | {"seed": int(outputs["seed"]), "passed": passed}))
    return passed


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        sys.exit(not read(Path(sys.argv[2])))
