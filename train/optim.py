"""Optimisers and learning-rate schedules, built from optax."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import PyTree

from train.multipliers import Layers, layer_multipliers, path_multipliers
from zoo.types import InputError, check_not_negative


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """An optimiser and its schedule.

    Attributes:
        name: adamw (arXiv 1711.05101); sgd with momentum; lamb (1904.00962); lars
            (1708.03888, with the trust coefficient 0.001 and plain momentum, as MoCo v3 and MAE use
            it); adafactor (1804.04235); or muon (kellerjordan.github.io/posts/muon). lamb and lars
            scale only the parameters that decay by the trust ratio. muon updates the kernels, a
            convolution's as a matrix whose columns are its outputs, and adamw updates all other
            parameters; muon's updates are scaled to the size of adamw's (2502.16982), so the same
            learning rates suit both.
        learning_rate: At the end of the warm-up. Never scaled by the batch size.
        schedule: How the rate changes after the warm-up: cosine (half a period), linear, constant,
            rsqrt (proportional to the inverse square root of the step, arXiv 1706.03762), or step
            (constant, then a tenth of the rate before from each of `drop_at` on).
        warmup_steps: Steps in which the rate rises linearly from 0.
        final_fraction: Last rate of cosine and linear, as a share of `learning_rate`.
        drop_at: Share of all steps after which the step schedule drops, or several such shares.
        weight_decay: Decoupled and multiplied by the learning rate, as in torch's AdamW; for sgd
            and lars added to the gradient. Kernels and embeddings decay; norms, biases, positions
            and tokens do not.
        b1: Decay of the first moment; for sgd, lars and adafactor the momentum, 0 for none.
        b2: Decay of the second moment; adafactor has its own schedule for it.
        eps: Added to the root of the second moment, by adamw and lamb.
        nesterov: Whether the momentum of sgd is Nesterov's.
        clip_norm: Largest global norm of the gradient; None does not clip.
        layer_decay: Factor between the rates of a layer and of the layer below it (arXiv
            2106.08254), in the order that the model's family declares; 1 gives all layers the same
            rate.
        multipliers: Factor of the learning rate, and so of the weight decay, for each pattern:
            ``{"body/stem_*": 0.0, "body": 0.1}``. A pattern is compared with the beginning of a
            parameter's path, component by component (components are separated by ``/``), and in
            each component ``*``, ``?`` and ``[...]`` have the meaning that they have in file names.
            So ``blocks_1`` is the whole block 1 and not block 10, ``blocks_1*`` is both, and the
            empty pattern matches every parameter. The first pattern that matches counts; the
            factor is 1 where none does. 0 freezes: no gradient is computed. ``{"head": 1.0, "":
            0.0}`` trains the head alone.
        moment_dtype: Dtype of the first moment, or momentum; None is the parameters' dtype.
    """

    name: Literal["adamw", "sgd", "lamb", "lars", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant", "rsqrt", "step"] = "cosine"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    drop_at: float | tuple[float, ...] = 2 / 3
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    nesterov: bool = True
    clip_norm: float | None = None
    layer_decay: float = 1.0
    multipliers: dict[str, float] = dataclasses.field(default_factory=dict)
    moment_dtype: Literal["bfloat16", "float32"] | None = None

    def __post_init__(self) -> None:
        names = ("learning_rate", "warmup_steps", "final_fraction", "weight_decay", "eps")
        check_not_negative(self, names, "optim.")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"optim.{name} is {getattr(self, name)}, but must be in 0..1")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optim.layer_decay is {self.layer_decay}, but must be in 0..1")
        if not all(0 < drop <= 1 for drop in self.drops):
            raise InputError(f"optim.drop_at is {self.drop_at}, but must be in 0..1")
        if any(factor < 0 for factor in self.multipliers.values()):
            raise InputError(f"optim.multipliers are {self.multipliers}, but must be at least 0")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise InputError(f"optim.clip_norm is {self.clip_norm}, but must be above 0, or none")

    @property
    def drops(self) -> tuple[float, ...]:
        """The shares of `drop_at`."""
        return self.drop_at if isinstance(self.drop_at, tuple) else (self.drop_at,)


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
            peak, {max(round(steps * drop) - warmup, 0): 0.1 for drop in config.drops}
        ),
    }[config.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def decay_mask(params: PyTree) -> PyTree:
    """True for the parameters that weight decay applies to: kernels and embedding tables."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def _matrices(params: PyTree) -> PyTree:
    """For muon: the axes of each kernel that are inputs (all but the last) and outputs (the last).

    A kernel with three axes belongs to scanned dense layers: its first axis counts the layers, and
    each layer's kernel is a matrix of its own.
    """

    def axes(path: tuple[Any, ...], x: Any) -> optax.contrib.MuonDimensionNumbers | None:
        if path[-1].key != "kernel":
            return None
        inputs = range(int(x.ndim == 3), x.ndim - 1)
        return optax.contrib.MuonDimensionNumbers(tuple(inputs), x.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def make_optimizer(
    config: OptimConfig, steps: int, params: PyTree, layers: Layers = ()
) -> optax.GradientTransformation:
    """The optimiser for parameters with the names and shapes of `params`.

    Args:
        config: Its settings.
        steps: Of the schedule.
        params: The parameters, or their shapes.
        layers: The order of the model's layers, for `config.layer_decay`.

    Raises:
        InputError: If there is a layer decay, but no order of layers; or if a pattern of
            `config.multipliers` is the first match of no parameter.
    """
    if config.layer_decay != 1 and not layers:
        raise InputError(
            f"optim.layer_decay is {config.layer_decay}, but this model has no order of layers;"
            " leave it at 1"
        )
    optimizer = _make_rule(config, make_schedule(config, steps))
    clip = scale = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    if config.layer_decay != 1 or config.multipliers:
        multipliers = jax.tree.map(
            lambda a, b: a * b,
            layer_multipliers(params, config.layer_decay, layers),
            path_multipliers(params, config.multipliers),
        )
        scale = optax.stateless(
            lambda updates, _: jax.tree.map(lambda x, by: x * by, updates, multipliers)
        )
    return optax.chain(clip, optimizer, scale)


def _make_rule(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser of `config.name`, with weight decay and learning rate."""
    return {
        "adamw": _adamw,
        "sgd": _sgd,
        "lamb": _lamb,
        "lars": _lars,
        "adafactor": _adafactor,
        "muon": _muon,
    }[config.name](config, rate)


def _adamw(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(
        rate,
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decay_mask,
        mu_dtype=config.moment_dtype,
    )


def _muon(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
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


def _lamb(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=config.moment_dtype),
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.masked(optax.scale_by_trust_ratio(), decay_mask),
        optax.scale_by_learning_rate(rate),
    )


def _lars(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), decay_mask),
        optax.trace(config.b1, accumulator_dtype=config.moment_dtype),
        optax.scale_by_learning_rate(rate),
    )


def _sgd(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.sgd(rate, config.b1, nesterov=config.nesterov, accumulator_dtype=config.moment_dtype),
    )


def _adafactor(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """Adafactor whose weight decay is multiplied by the rate, as in the other optimisers.

    `optax.adafactor` itself would add the decay after the rate, so it gets neither of them.
    """
    return optax.chain(
        optax.adafactor(
            learning_rate=None,
            momentum=config.b1 or None,
            dtype_momentum=config.moment_dtype or jnp.float32,
        ),
        optax.add_decayed_weights(-config.weight_decay, decay_mask),
        optax.scale_by_schedule(rate),
    )
