"""Optimisers and schedules, put together from optax."""

import dataclasses
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """An optimiser and its schedule.

    Attributes:
        name: adamw (arXiv 1711.05101), sgd with Nesterov momentum, lamb (1904.00962), lars
            (1708.03888, as in MoCo v3 and MAE: trust coefficient 0.001, plain momentum; of both,
            what does not decay is not scaled by the trust ratio either), adafactor (1804.04235) or
            muon (kellerjordan.github.io/posts/muon) for the kernels, a convolution's taken as a
            matrix of its outputs, and adamw for all else; its updates have adamw's size
            (2502.16982), so that adamw's rates serve it too.
        learning_rate: At the end of the warm-up. Never scaled by the batch size.
        schedule: Way from there to the end: a half cosine, a line, constant, rsqrt: the inverse
            square root of the step over the warm-up (arXiv 1706.03762), or step: constant, and a
            tenth of that from `drop_at` on.
        warmup_steps: Steps in which the rate rises linearly from 0.
        final_fraction: Where cosine and linear end, as a share of `learning_rate`.
        drop_at: Share of all steps after which the step schedule drops.
        weight_decay: Decoupled and multiplied by the learning rate, as in torch's AdamW; for sgd
            and lars added to the gradient. Kernels and embeddings decay; norms, biases, positions
            and tokens do not.
        b1: Decay of the first moment; sgd's, lars' and adafactor's momentum, 0 for none.
        b2: Decay of the second moment; adafactor has a schedule of its own.
        eps: Added to the root of the second moment, by adamw and lamb.
        clip_norm: Largest global norm of the gradient; None for any.
        layer_decay: The rate's factor from one block to the one below (arXiv 2106.08254); 1 for
            the same everywhere.
        multipliers: Factors of the rate, and so of the decay, by the beginning of a parameter's
            path, ``{"body/stem": 0.0, "body": 0.1}``: the first that fits counts. 0 freezes:
            no gradient is computed; ``{"head": 1.0, "": 0.0}`` trains the head alone.
        moment_dtype: Of the first moment, the momentum; None for the parameters' own.
    """

    name: Literal["adamw", "sgd", "lamb", "lars", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant", "rsqrt", "step"] = "cosine"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    drop_at: float = 2 / 3
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float | None = None
    layer_decay: float = 1.0
    multipliers: dict[str, float] = dataclasses.field(default_factory=dict)
    moment_dtype: Literal["bfloat16", "float32"] | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "warmup_steps", "final_fraction", "weight_decay", "eps"):
            if getattr(self, name) < 0:
                raise InputError(f"optim.{name} is {getattr(self, name)}, but must be at least 0")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"optim.{name} is {getattr(self, name)}, but must be in 0..1")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optim.layer_decay is {self.layer_decay}, but must be in 0..1")
        if not 0 < self.drop_at <= 1:
            raise InputError(f"optim.drop_at is {self.drop_at}, but must be in 0..1")
        if any(factor < 0 for factor in self.multipliers.values()):
            raise InputError(f"optim.multipliers are {self.multipliers}, but must be at least 0")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise InputError(f"optim.clip_norm is {self.clip_norm}, but must be above 0, or none")


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, 0 to `steps`."""
    peak, warmup = config.learning_rate, config.warmup_steps
    rest = max(steps - warmup, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest, config.final_fraction),
        "linear": optax.linear_schedule(peak, peak * config.final_fraction, rest),
        "constant": optax.constant_schedule(peak),
        "rsqrt": lambda count: peak * (1 + count / max(warmup, 1)) ** -0.5,
        "step": optax.piecewise_constant_schedule(
            peak, {max(round(steps * config.drop_at) - warmup, 0): 0.1}
        ),
    }[config.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def decay_mask(params: Any) -> Any:
    """True for the parameters that weight decay applies to: kernels and embedding tables."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def _matrices(params: Any) -> Any:
    """How muon is to see each kernel as a matrix: all axes but the last are inputs.

    Those with three axes are of scanned dense layers: a matrix each.
    """

    def numbers(path: tuple[Any, ...], x: Any) -> optax.contrib.MuonDimensionNumbers | None:
        if path[-1].key != "kernel":
            return None
        inputs = range(int(x.ndim == 3), x.ndim - 1)
        return optax.contrib.MuonDimensionNumbers(tuple(inputs), x.ndim - 1)

    return jax.tree_util.tree_map_with_path(numbers, params)


def layer_multipliers(params: Any, decay: float) -> Any:
    """Each parameter's share of the learning rate: decay ** (blocks above it).

    The head and the last norm have 1, the last block `decay`, the embeddings the least; as in
    BEiT (arXiv 2106.08254) and MAE.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    scanned = [leaf.shape[0] for path, leaf in leaves if path[0].key == "blocks"]

    def depth(path: tuple[Any, ...]) -> Any:
        """Number of the block, from 1; 0 for what comes before the blocks, None after them.

        Of scanned blocks the numbers of all of them.
        """
        if path[0].key == "blocks":
            return np.arange(1, scanned[0] + 1)
        if match := re.fullmatch(r"blocks_(\d+)", path[0].key):
            return int(match[1]) + 1
        before = ("patch_embed", "pos_embed", "cls_token", "cls_pos_embed")
        return 0 if path[0].key in before else None

    last = max((np.max(d) for path, _ in leaves if (d := depth(path)) is not None), default=0) + 1

    def multiplier(path: tuple[Any, ...], leaf: Any) -> Any:
        position = depth(path)
        if position is None:
            return 1.0
        share = decay ** (last - position)
        if np.ndim(share):
            return np.float32(share).reshape(-1, *[1] * (leaf.ndim - 1))
        return float(share)

    return jax.tree_util.tree_map_with_path(multiplier, params)


def path_multipliers(params: Any, multipliers: dict[str, float]) -> Any:
    """Each parameter's factor of the rate: that of the first beginning that its path has, else 1.

    Raises:
        InputError: If no parameter's path begins so.
    """
    seen = set()

    def multiplier(path: tuple[Any, ...], _: Any) -> float:
        text = "/".join(key.key for key in path)
        found = next((start for start in multipliers if text.startswith(start)), None)
        seen.add(found)
        return 1.0 if found is None else multipliers[found]

    tree = jax.tree_util.tree_map_with_path(multiplier, params)
    if unseen := [start for start in multipliers if start not in seen]:
        raise InputError(
            f"optim.multipliers: no parameter of its own begins with {unseen[0]!r}; they begin with"
            f" {', '.join(sorted(params))}"
        )
    return tree


def freeze(params: Any, multipliers: dict[str, float]) -> Any:
    """The parameters, with no gradient through those whose factor of the rate is 0."""
    return jax.tree.map(
        lambda x, factor: x if factor else jax.lax.stop_gradient(x),
        params,
        path_multipliers(params, multipliers),
    )


def make_optimizer(config: OptimConfig, steps: int, params: Any) -> optax.GradientTransformation:
    """The optimiser for parameters of the shape of `params`."""
    optimizer = _make_rule(config, make_schedule(config, steps))
    clip = scale = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    if config.layer_decay != 1 or config.multipliers:
        multipliers = jax.tree.map(
            lambda a, b: a * b,
            layer_multipliers(params, config.layer_decay),
            path_multipliers(params, config.multipliers),
        )
        scale = optax.stateless(
            lambda updates, _: jax.tree.map(lambda x, by: x * by, updates, multipliers)
        )
    return optax.chain(clip, optimizer, scale)


def _make_rule(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser of that name, weight decay and learning rate included."""
    moments: dict[str, Any] = {"b1": config.b1, "b2": config.b2, "eps": config.eps}
    decay = {"weight_decay": config.weight_decay, "mask": decay_mask}
    if config.name == "adamw":
        return optax.adamw(rate, **moments, **decay, mu_dtype=config.moment_dtype)
    if config.name == "muon":
        return optax.contrib.muon(
            rate,
            weight_decay=config.weight_decay,
            weight_decay_mask=decay_mask,
            mu_dtype=config.moment_dtype,
            adam_b1=config.b1,
            adam_b2=config.b2,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=0.2,
        )
    if config.name == "lamb":
        return optax.chain(
            optax.scale_by_adam(**moments, mu_dtype=config.moment_dtype),
            optax.add_decayed_weights(**decay),
            optax.masked(optax.scale_by_trust_ratio(), decay_mask),
            optax.scale_by_learning_rate(rate),
        )
    if config.name == "lars":
        return optax.chain(
            optax.add_decayed_weights(**decay),
            optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), decay_mask),
            optax.trace(config.b1, accumulator_dtype=config.moment_dtype),
            optax.scale_by_learning_rate(rate),
        )
    if config.name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay, decay_mask),
            optax.sgd(rate, config.b1, nesterov=True, accumulator_dtype=config.moment_dtype),
        )
    # optax adds Adafactor's decay after the learning rate; every other one multiplies by it.
    return optax.chain(
        optax.adafactor(
            learning_rate=None,
            momentum=config.b1 or None,
            dtype_momentum=config.moment_dtype or jnp.float32,
        ),
        optax.add_decayed_weights(-config.weight_decay, decay_mask),
        optax.scale_by_schedule(rate),
    )
