"""Names of timm and torchvision for VGG.

Both number all layers of the stages in one sequence, with the activations and poolings. timm's two
layers before the head are convolutions, torchvision's are dense.
"""

from functools import partial
from typing import Any

from zoo.family import Layout, NameMap, Rule
from zoo.weights.maps import (
    BATCH_COUNTERS,
    CONV,
    batch_norm,
    biased_conv,
    dense,
    pointwise,
    rule,
)


def timm(model: Any) -> tuple[Rule, ...]:
    """Rules for `VGG`."""
    return (
        *stages(model, "features."),
        *biased_conv("pre_logits.fc1", "hidden_0"),
        *pointwise("pre_logits.fc2", "hidden_1"),
        *dense("head.fc", "head"),
    )


def torchvision(model: Any, *, prefix: str) -> tuple[Rule, ...]:
    """Rules for `VGG`; the prefix is ``features.``, in detectors another one."""
    size = model.map_size
    conv_of_dense = Layout(
        lambda x: CONV.read(x.reshape(len(x), -1, size, size)),
        lambda x: CONV.write(x).reshape(x.shape[-1], -1),
    )
    return (
        *stages(model, prefix),
        rule("classifier.0.weight", "hidden_0/kernel", layout=conv_of_dense),
        rule("classifier.0.bias", "hidden_0/bias"),
        *dense("classifier.3", "hidden_1"),
        *dense("classifier.6", "head"),
    )


def stages(model: Any, prefix: str) -> list[Rule]:
    """Rules for the convolutions and norms of all stages."""
    rules: list[Rule] = []
    for i, j, number in numbered(model):
        rules += biased_conv(f"{prefix}{number}", f"stages_{i}_conv_{j}")
        if model.norm is not None:
            rules += batch_norm(f"{prefix}{number + 1}", f"stages_{i}_norm_{j}")
    return rules


def numbered(model: Any) -> list[tuple[int, int, int]]:
    """The stage of each convolution, its number in the stage, and its number in their sequence."""
    found, number, step = [], 0, 2 if model.norm is None else 3
    for i, depth in enumerate(model.num_convs):
        found += [(i, j, number + step * j) for j in range(depth)]
        number += step * depth + 1  # the pooling
    return found


NAMES = (
    NameMap("timm", timm, BATCH_COUNTERS),
    NameMap("torchvision", partial(torchvision, prefix="features."), BATCH_COUNTERS),
)
