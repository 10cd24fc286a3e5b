"""Loads a masked autoencoder's encoder as a ViT, from the files of each source.

The last norm of a ViT with `norm_after_pool` is initialised anew, and the encoder's last norm is
not used, as in facebookresearch/mae's fine-tuning.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from flax import linen as nn

from zoo.family import Implied, Rule
from zoo.models.classification.vit import layouts
from zoo.weights.maps import SAME

_HEAD = ("params/head/", "batch_stats/head_norm/")
_NORM = "the encoder's last norm; this ViT has one after the pooling"
_NEW_NORM = "initialised anew: this ViT has its norm after the pooling; the encoder's is not used"
_STATISTICS = "statistics before a new head"
_DECODER = "part of the decoder; a ViT has only the encoder"


def zoo(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for the encoder of the zoo's `MAE`; its fixed positions can become learned ones."""
    collection = "fixed" if model.positions == "fixed" else "params"
    return (
        *(
            Rule(f"fixed/encoder/{name}", (f"{collection}/{name}",), SAME)
            for name in ("pos_embed", "cls_pos_embed")
        ),
        Rule("params/encoder/{path}", ("params/{path}",), SAME),
    )


def huggingface(model: nn.Module, prefix: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for the encoder of `ViTMAEForPreTraining`, or `ViTMAEModel`."""
    return _headless(layouts.huggingface(model, prefix, names))


def fair(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for the encoder of a `MaskedAutoencoderViT`."""
    return _headless(layouts.timm(model))


def _headless(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Gives the head names that no file has, because models have no head in pre-training."""
    return tuple(
        entry._replace(theirs=f"none in pre-training: {entry.theirs}")
        if entry.ours[0].startswith(_HEAD)
        else entry
        for entry in rules
    )


def reasons(norm: str, *decoder: str) -> dict[str, str]:
    """Shell-style patterns of a MAE's tensors that a ViT may not need, with the reasons."""
    return {norm: _NORM, **dict.fromkeys(decoder, _DECODER)}


ZOO_REASONS = reasons("params/encoder/norm/*", "params/decoder/*", "fixed/decoder/*")
FAIR_REASONS = reasons("norm.*", "decoder_*", "mask_token")


def implied(model: nn.Module) -> dict[str, Implied]:
    """The leaves of a ViT for which a MAE's encoder has no tensors."""
    zeros, ones = np.zeros(model.hidden_dim, np.float32), np.ones(model.hidden_dim, np.float32)
    found = {}
    if model.norm_after_pool:
        found["params/norm/scale"] = Implied(ones, _NEW_NORM)
        found["params/norm/bias"] = Implied(zeros, _NEW_NORM)
    if model.head_batch_norm:
        found["batch_stats/head_norm/mean"] = Implied(zeros, _STATISTICS)
        found["batch_stats/head_norm/var"] = Implied(ones, _STATISTICS)
    return found
