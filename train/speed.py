"""python -m train.speed --models=NAME,... or --loader=RECIPE, --field.sub=value ...

With --models, measures registered models (patterns such as 'vit_*' are allowed) on one device, with
random data: examples/s of inference and of whole training steps, the time to compile, the memory
of the compiled program, the FLOPs for one example, and the FLOPs per second as a share of what
large matrix products reach on the device. With --loader, measures only the examples/s that the
loader of a recipe delivers.

  --batch_size=N  --image_size=N or H,W  --dtype=NAME  --repeats=N (5)  --json=FILE

All other fields are those of python -m train: --model.remat=true, --accumulate=4, --data.threads=8.
Defaults: the image size is the one that the model is made for; the dtype is bfloat16, on a CPU
float32; a batch has about as many pixels as 256 images of 224 x 224, on a CPU as 8 such images.
Inference includes the normalisation; a translator is given the target, as in training. The exit
code is 0, or 2 for bad input; a model that cannot be measured is an error line, the others are
measured all the same, and the exit code is 2.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import jax
from rich.console import Console
from rich.table import Table

import zoo
from train.config import Config, ConfigError, override
from train.measure import Speed, measure_model, measured_peak, median_seconds
from train.model import with_preprocessing
from train.recipes import RECIPES
from train.synthetic import synthetic_config
from zoo.data import train_batches
from zoo.registry import unknown
from zoo.types import InputError
from zoo.writing import write_whole

_CPU_PIXELS, _PIXELS = 8 * 224**2, 256 * 224**2  # pixels of a batch if no batch size is given


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, and how.

    Attributes:
        models: Names, or patterns of names.
        loader: Name of the recipe whose loader is measured.
        batch_size: Examples in a batch.
        image_size: Side, or height and width, in pixels.
        dtype: Dtype in which the models compute.
        repeats: Number of measurements; their median is reported.
        json: File to which all figures are written.
    """

    models: tuple[str, ...] = ()
    loader: str | None = None
    batch_size: int | None = None
    image_size: int | tuple[int, int] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    repeats: int = 5
    json: str | None = None

    def __post_init__(self) -> None:
        least = {
            "batch_size": self.batch_size,
            "image_size": self.size and min(self.size),
            "repeats": self.repeats,
        }
        for name, value in least.items():
            if value is not None and value < 1:
                raise ConfigError(f"--{name} is {value}, but must be at least 1")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 110)  # a narrower console would cut the table's cells
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print((__doc__ or "").strip())
        return 0
    try:
        options, overrides = _parse(arguments)
        measure = _measure_models if options.models else _measure_loader
        figures = measure(options, overrides, console)
        if options.json is not None:
            path = Path(options.json).expanduser()
            write_whole(path, json.dumps(figures, indent=2) + "\n")
        if figures.get("errors"):
            return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """The options, and the remaining arguments, which are fields of a run."""
    names = {field.name for field in dataclasses.fields(Options)}
    own = [text for text in arguments if text[2:].partition("=")[0] in names]
    options = override(Options(), own)
    if bool(options.models) == bool(options.loader):
        raise ConfigError("give either --models=NAME,... or --loader=RECIPE")
    if options.loader and (options.image_size or options.dtype):
        raise ConfigError("--image_size and --dtype are of --models; for a loader set --data.FIELD")
    return options, [text for text in arguments if text not in own]


def _measure_models(options: Options, overrides: list[str], console: Console) -> dict[str, Any]:
    names: list[str] = []
    for pattern in options.models:
        if not (found := zoo.list_models(pattern)):
            raise ConfigError(unknown("model", pattern, zoo.list_models()))
        names += found
    device = jax.devices()[0]
    peaks: dict[str, float] = {}
    rows: list[Speed] = []
    errors: dict[str, str] = {}
    try:
        for name in names:
            try:
                with console.status(name):
                    config = _config(name, options, overrides)
                    dtype = config.model.fields["dtype"]
                    if dtype not in peaks:
                        peaks[dtype] = measured_peak(dtype, options.repeats)
                    rows += measure_model(config, options.repeats, peaks[dtype])
            except (InputError, jax.errors.JaxRuntimeError) as error:  # the latter: out of memory
                text = str(error).splitlines()[0]
                errors[name] = text if text.startswith(name) else f"{name}: {text}"
                print(f"error: {errors[name]}", file=sys.stderr)
    finally:
        if rows:
            console.print(_table(rows), soft_wrap=True)
    for dtype, peak in peaks.items() if rows else ():
        console.print(f"peak of {dtype} on {device.device_kind}: {peak / 1e12:.3g} TFLOP/s")
    return {
        "device": device.device_kind,
        "jax": jax.__version__,
        "peak_flops_per_second": peaks,
        "models": [dataclasses.asdict(row) for row in rows],
        "errors": errors,
    }


def _config(name: str, options: Options, overrides: list[str]) -> Config:
    on_cpu = jax.default_backend() == "cpu"
    pixels = _CPU_PIXELS if on_cpu else _PIXELS
    config = synthetic_config(name, options.size, options.batch_size, pixels)
    dtype = options.dtype or ("float32" if on_cpu else "bfloat16")
    for text in overrides:
        if text.startswith("--model.name="):
            raise ConfigError(f"{text}: give it to --models")
    config = override(config, [f"--model.dtype={dtype}", *overrides])
    return config


def _measure_loader(options: Options, overrides: list[str], console: Console) -> dict[str, Any]:
    if options.loader not in RECIPES:
        raise ConfigError(unknown("recipe", str(options.loader), RECIPES))
    config = with_preprocessing(override(RECIPES[options.loader](), overrides))
    batch_size = options.batch_size or config.batch_size
    dataset = config.task.open(config.data, "train")
    with closing(train_batches(dataset, batch_size, seed=config.seed)) as batches:
        next(batches)
        seconds = median_seconds(lambda: next(batches)["valid"], options.repeats)
    speed = batch_size / seconds
    console.print(
        f"{options.loader}: {speed:,.1f} examples/s in batches of {batch_size}, read by"
        f" {dataset.threads} threads in {dataset.workers or 'no'} worker processes",
        soft_wrap=True,
    )
    figures = {"loader": options.loader, "batch_size": batch_size, "examples_per_second": speed}
    return {**figures, "threads": dataset.threads, "workers": dataset.workers}


def _table(rows: list[Speed]) -> Table:
    table = Table(box=None)
    left, right = ("model", "work"), ("batch", "examples/s", "GFLOP", "of peak")
    for column in (*left, *right, "compile", "memory"):
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.model,
            row.work,
            f"{row.batch_size} x {row.input}",
            f"{row.examples_per_second:,.4g}",
            f"{row.flops_per_example / 1e9:.4g}",
            f"{row.share_of_peak:.1%}",
            f"{row.compile_seconds:.1f} s",
            f"{row.memory_bytes / 2**20:,.0f} MiB",
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
