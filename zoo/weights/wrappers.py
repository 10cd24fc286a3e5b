"""What wrappers of modules and training scripts put before the names of parameters."""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

# Submodules that hold the model in other programs' wrappers: averages of parameters first.
_HOLDERS = (
    *("model_ema", "ema_model", "ema", "teacher", "module", "model", "network", "net"),
    *("backbone", "encoder", "base_encoder", "encoder_q", "student"),
)
# Submodules that PyTorch's compiler, FSDP and activation checkpoints put anywhere in a name.
_INSERTED = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
_MOST_HOLDERS = 4
_NPZ = ("opt/target/", "params/")


def unwrap_torch(tensors: Mapping[str, T]) -> dict[str, T]:
    """Removes what PyTorch's wrappers add to names; ``module.`` only if all names begin with it.

    >>> unwrap_torch({"_orig_mod.module.fc._checkpoint_wrapped_module.bias": 1})
    {'fc.bias': 1}
    """
    names = {name: ".".join(p for p in name.split(".") if p not in _INSERTED) for name in tensors}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {old: name.removeprefix("module.") for old, name in names.items()}
    if len(set(names.values())) < len(names) or "" in names.values():
        return dict(tensors)
    return {names[old]: tensor for old, tensor in tensors.items()}


def unwrap_npz(tensors: Mapping[str, T]) -> dict[str, T]:
    """Removes a prefix that all names have except ``opt/...``, which are dropped.

    >>> unwrap_npz({"opt/target/head/bias": 1, "opt/state/step": 2})
    {'head/bias': 1}
    """
    for prefix in _NPZ:
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        beside = [k for k in tensors if not k.startswith((prefix, "opt/"))]
        tensors = inside if inside and not beside else tensors
    return dict(tensors)


def split_names(names: Iterable[str], prefix: str) -> tuple[set[str], set[str]]:
    """The names with a prefix, which is removed, and the other names."""
    names = set(names)
    begin = {name for name in names if name.startswith(prefix)}
    return {name.removeprefix(prefix) for name in begin}, names - begin


def holders(names: Collection[str]) -> list[str]:
    """The prefixes under which a larger program's file may hold the model; first none.

    >>> holders(["model.backbone.fc.bias", "loss.weight"])
    ['', 'model.', 'model.backbone.']
    """
    found, last = [""], [""]
    for _ in range(_MOST_HOLDERS):
        last = [
            longer
            for prefix in last
            for holder in _HOLDERS
            if any(name.startswith(longer := f"{prefix}{holder}.") for name in names)
        ]
        found += last
    return found
