"""Measures one model: seconds, memory and FLOPs of inference and of a training step."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import zoo
from train.config import Config
from train.flops import count_flops
from train.model import build, with_preprocessing
from train.optim import make_optimizer
from train.step import make_init, make_step
from train.synthetic import TOKENS, draw_batch
from train.tasks import Batch
from zoo.layers.stack import with_fields
from zoo.registry import layers_of

_REPEAT_SECONDS = 0.25  # one repeat makes as many calls as fit into this time,
_REPEAT_CALLS = 100  # but not more than this number of calls


@dataclasses.dataclass(frozen=True)
class Speed:
    """The measurements of one model, in inference or in training.

    Attributes:
        model: Name of the model.
        work: ``inference`` or ``training``.
        input: Size of an example: height x width in pixels, or the number of tokens of the source,
            which is also the number of tokens of the target.
        dtype: Dtype of the computation.
        batch_size: Examples in one call.
        examples_per_second: Computed from the median of the repeats.
        compile_seconds: Time to trace and compile the function.
        memory_bytes: Memory for arguments, results and temporary arrays of the program; the
            arguments include the parameters and, in training, the state of the optimiser.
        flops_per_example: FLOPs of the matrix products and convolutions that the model needs, see
            `train.flops`; what `remat` computes a second time is not counted.
        share_of_peak: FLOPs per second, divided by those that one large matrix product reaches.
    """

    model: str
    work: str
    input: str
    dtype: str
    batch_size: int
    examples_per_second: float
    compile_seconds: float
    memory_bytes: int
    flops_per_example: float
    share_of_peak: float


def measured_peak(dtype: str, repeats: int) -> float:
    """FLOPs per second of the fastest of several large matrix products."""
    multiply, peak = jax.jit(jnp.matmul), 0.0
    for n in (1_024, 2_048, 4_096, 8_192):
        x = jax.random.normal(jax.random.key(0), (n, n), dtype)
        seconds = median_seconds(lambda x=x: multiply(x, x), repeats)
        peak = max(peak, 2 * n**3 / seconds)
        if seconds > 0.02:  # long enough: larger products are not faster
            break
    return peak


def measure_model(config: Config, repeats: int, peak: float) -> list[Speed]:
    """Measures inference and training of one model; gives one row for each.

    Args:
        config: A configuration from `synthetic_config`.
        repeats: Number of measurements; their median is reported.
        peak: FLOPs per second by which those of the model are divided for `share_of_peak`.

    Raises:
        ConfigError: If the model refuses its fields, or the size of the images.
    """
    config = with_preprocessing(config)
    batch = draw_batch(config, zoo.create(config.model.name, **config.model.fields))
    model, shapes = build(config, batch)
    # Only for the count of FLOPs: no library kernels in float32, nothing computed twice.
    plain = with_fields(model, dtype=jnp.float32, remat=False)
    at_once = dataclasses.replace(config, accumulate=1)
    optimizer = make_optimizer(config.optim, config.steps, shapes["params"], layers_of(model))
    on_device = jax.device_put(batch)
    state = jax.jit(make_init(config, model, optimizer))(on_device)

    def infer() -> Any:
        return programs["inference"](state, on_device)

    def train() -> Any:
        nonlocal state
        state, means = programs["training"](state, on_device)
        return means

    rows: list[Speed] = []
    programs: dict[str, Any] = {}
    for work, make, call, donated in (
        ("inference", _make_inference, infer, ()),
        ("training", make_step, train, (0,)),
    ):
        flops = count_flops(make(at_once, plain, optimizer), state, batch)
        begin = time.perf_counter()
        jitted = jax.jit(make(config, model, optimizer), donate_argnums=donated)
        programs[work] = jitted.lower(state, on_device).compile()
        compile_seconds = time.perf_counter() - begin
        seconds = median_seconds(call, repeats)
        rows.append(
            Speed(
                model=config.model.name,
                work=work,
                input=_describe_input(batch),
                dtype=config.model.fields["dtype"],
                batch_size=config.batch_size,
                examples_per_second=config.batch_size / seconds,
                compile_seconds=compile_seconds,
                memory_bytes=_memory(programs[work]),
                flops_per_example=flops / config.batch_size,
                share_of_peak=flops / seconds / peak,
            )
        )
    return rows


def _make_inference(config: Config, model: Any, optimizer: Any) -> Callable[[Any, Batch], Any]:
    """A function of a state and a batch that gives the model's output; called like `make_step`."""

    def infer(state: Any, batch: Batch) -> Any:
        batch = config.task.prepare(config.data, model, jax.random.key(0), batch)
        inputs = config.task.inputs(batch)
        return model.apply(state.evaluated(), *inputs, rngs={"mask": jax.random.key(0)})

    return infer


def _memory(compiled: Any) -> int:
    found = compiled.memory_analysis()
    sizes = (getattr(found, f"{part}_size_in_bytes") for part in ("argument", "output", "temp"))
    return sum(sizes) - found.alias_size_in_bytes


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median of the seconds that one call takes, when many calls follow each other."""

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            result = call()
        jax.block_until_ready(result)
        return (time.perf_counter() - begin) / count

    seconds(1)  # the first call is slower
    count = min(max(math.ceil(_REPEAT_SECONDS / seconds(1)), 1), _REPEAT_CALLS)
    return statistics.median(seconds(count) for _ in range(repeats))


def _describe_input(batch: dict[str, Any]) -> str:
    if "image" not in batch:
        return f"{TOKENS} tokens"
    return "{} x {}".format(*batch["image"].shape[1:3])
