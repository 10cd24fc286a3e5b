"""MAE's goldens: transformers, and facebookresearch/mae."""

import argparse
import os
import sys
from functools import partial

import numpy as np
import torch
import transformers

from peers.draws import images, randomise, write
from peers.vit import VIT

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


def goldens() -> None:
    """Goldens of Hugging Face's model, and of facebookresearch/mae, whose checkout is $FAIR_MAE.

    Each has the losses with and without normalised patches, for a mask that the peer draws. The
    authors' positions are not changed; Hugging Face's are random like all other weights.
    """
    fields = {**{k: VIT[k] for k in VIT if k != "num_classes"}, "decoder_hidden_dim": 8}
    fields |= {"decoder_num_layers": 1, "decoder_num_heads": 2, "decoder_mlp_dim": 32}
    x = images(16, 16)
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
    # The names of files by transformers 4, as on the hub: attention and MLP as in its ViT.
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
    save_masked("huggingface", fields, x, weights, plain, normalised)

    np.float = float  # the code that makes its positions uses it, but numpy 2 does not have it
    sys.path.insert(0, os.environ["FAIR_MAE"])
    drop_util()
    import models_mae

    sys.path.pop(0)
    drop_util()

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
    save_masked("fair", fields, x, model.state_dict(), output, normalised)


def drop_util() -> None:
    """Removes the package `util` of DETR's checkout: MAE has a package with the same name."""
    sys.path[:] = [path for path in sys.path if path != os.environ.get("FAIR_DETR")]
    for name in [name for name in sys.modules if name.partition(".")[0] == "util"]:
        del sys.modules[name]


def save_masked(source, fields, x, weights, output, normalised) -> None:
    """Writes the golden of a masked autoencoder: prediction, visible patches and both losses."""
    write(
        f"mae_{source}",
        {"name": "mae_vit_nano_patch4", "fields": fields, "source": source},
        {"images": x.permute(0, 2, 3, 1), "visible": output.mask == 0},
        {"patches": output.logits, "loss/plain": output.loss, "loss/normalised": normalised},
        weights,
        tolerance=1e-5,
    )


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names, without its fixed positions; to count parameters."""
    found = {}
    for name, config in CONFIGS.items():
        model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**config))
        del model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed
        found[name] = model
    return found
