"""Goldens of masked autoencoders: transformers, and facebookresearch/mae."""

import argparse
import json
import os
import sys
from functools import partial

import numpy as np
import torch
import transformers

from peers.classification import VIT
from peers.draws import HERE, images, randomise

CONFIGS = {
    "mae_vit_base_patch16": {},
    "mae_vit_large_patch16": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "mae_vit_huge_patch14": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
        "patch_size": 14,
    },
    "mae_vit_nano_patch4": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "image_size": 32,
        "patch_size": 4,
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 128,
    },
}


def masked_autoencoders() -> None:
    """Hugging Face's, and the authors' own from a checkout of facebookresearch/mae in $FAIR_MAE.

    The losses are with (`loss_normalised`) and without normalised patches; they draw the mask.
    The authors' positions are as they are, Hugging Face's are drawn as everything else.
    """
    fields = {**{k: VIT[k] for k in VIT if k != "num_classes"}, "decoder_hidden_dim": 8}
    fields |= {"decoder_num_layers": 1, "decoder_num_heads": 2, "decoder_mlp_dim": 32}
    name, x = "mae_vit_nano_patch4", images(16, 16)
    config = transformers.ViTMAEConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    model = randomise(transformers.ViTMAEForPreTraining(config))
    noise = torch.rand(3, 16)
    with torch.no_grad():
        plain = model(x, noise=noise)
        config.norm_pix_loss = True
        normalised = model(x, noise=noise).loss
    weights = model.state_dict()
    # A file of transformers 4, as on the hub: attention and MLP are called as ViT's there.
    for old, new in (
        ("vit.layers", "vit.encoder.layer"),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        weights = {k.replace(old, new): v for k, v in weights.items()}
    save_masked("huggingface_mae", name, fields, x, weights, plain, normalised)

    np.float = float  # what its positions are made with; numpy has dropped it
    sys.path.insert(0, os.environ["FAIR_MAE"])
    import models_mae

    sys.path.pop(0)
    for module in ("util", "util.pos_embed"):  # DETR has a package of that name as well
        del sys.modules[module]

    block = models_mae.Block
    models_mae.Block = lambda *args, qk_scale=None, **kwargs: block(*args, **kwargs)
    model = models_mae.MaskedAutoencoderViT(
        img_size=16,
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
        decoder_embed_dim=8,
        decoder_depth=1,
        decoder_num_heads=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    sinusoids = {k: v.clone() for k, v in model.state_dict().items() if "pos_embed" in k}
    randomise(model).load_state_dict(sinusoids, strict=False)
    with torch.no_grad():
        loss, predicted, mask = model(x)
        model.norm_pix_loss = True
        normalised = model.forward_loss(x, predicted, mask)
    output = argparse.Namespace(loss=loss, logits=predicted, mask=mask)
    save_masked("fair_mae", name, fields, x, model.state_dict(), output, normalised)


def save_masked(case, name, fields, x, weights, output, normalised) -> None:
    """Writes the golden of a masked autoencoder: its prediction, what it saw, and both losses."""
    np.savez_compressed(
        HERE / f"{case}.npz",
        config=json.dumps({"name": name, "fields": fields}),
        images=x.permute(0, 2, 3, 1).numpy(),
        logits=output.logits.numpy(),
        visible=output.mask.numpy() == 0,
        loss=output.loss.numpy(),
        loss_normalised=normalised.numpy(),
        **{f"weights/{k}": v.numpy() for k, v in weights.items()},
    )
