"""What the sources share of MAE: its fixed positions, and its encoder as a ViT.

A ViT with mean pooling has its only norm after the pooling, which starts anew, as in
facebookresearch/mae's fine-tuning: the encoder's last norm is left out.
"""

from collections.abc import Iterable

import numpy as np
from flax import linen as nn

from zoo.weights.maps import HEAD, Implied, Rule, positions

_NORM = "the encoder's last norm; this ViT has one after the pooling"
_NEW_NORM = "starts anew: this ViT has its norm after the pooling, and the encoder's is left out"
_STATISTICS = "statistics before a new head"
_DECODER = "the decoder; a ViT is the encoder"


def fixed_positions(theirs: str, part: str) -> Rule:
    """Their positions of the encoder or the decoder, which we do not train either."""
    ours = (f"fixed/{part}/pos_embed", f"fixed/{part}/cls_pos_embed")
    return Rule(theirs, ours, positions(class_token=True))


def headless(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules with the head under names that no file has: pre-training does without one."""
    return tuple(
        entry._replace(theirs=f"none in pre-training: {entry.theirs}")
        if entry.ours[0].startswith(HEAD)
        else entry
        for entry in rules
    )


def reasons(norm: str, *decoder: str) -> dict[str, str]:
    """Which tensors of a MAE, as shell-style patterns, a ViT may have no use for."""
    return {norm: _NORM, **dict.fromkeys(decoder, _DECODER)}


def implied(model: nn.Module) -> dict[str, Implied]:
    """The leaves of a ViT that a MAE's encoder has no tensors for."""
    zeros, ones = np.zeros(model.hidden_dim, np.float32), np.ones(model.hidden_dim, np.float32)
    found = {}
    if model.norm_after_pool:
        found["params/norm/scale"] = Implied(ones, _NEW_NORM)
        found["params/norm/bias"] = Implied(zeros, _NEW_NORM)
    if model.head_batch_norm:
        found["batch_stats/head_norm/mean"] = Implied(zeros, _STATISTICS)
        found["batch_stats/head_norm/var"] = Implied(ones, _STATISTICS)
    return found
