"""Masked autoencoders: how well hidden patches are restored, and pictures of it.

python -m eval.reconstruction --workdir=DIR [--checkpoint=best|last|STEP] [--json=FILE]
    [--statistics=patch|visible] [--pictures=8]

Evaluates a checkpoint of a run, with one fixed random mask for each image, and draws the original,
the masked image, the reconstruction, and the reconstruction with the visible patches on top.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8
from rich.console import Console

from eval.command import add_run_arguments, make_parser, run_command
from eval.compiling import announced
from eval.pictures import draw_reconstructions
from eval.runs import Put, open_run
from zoo.data import (
    ClassificationData,
    Dataset,
    eval_batches,
    normalize,
    open_classification,
    prefetch,
)
from zoo.data.devices import fetch_rows, fetch_whole, gather, this_process
from zoo.losses.reconstruction import patch_errors
from zoo.models.pretraining.mae.model import MAE
from zoo.ops.masks import random_visible
from zoo.ops.patches import patchify, unpatchify
from zoo.predict import reconstruct
from zoo.types import InputError

Statistics = Literal["patch", "visible"]

_CAPTION = {
    "patch": "predicted patches take brightness and contrast from the original of each patch",
    "visible": "predicted patches take brightness and contrast from the visible patches' average",
}


def fixed_masks(
    model: Any, positions: Int[Array, " b"], image_size: tuple[int, int]
) -> Bool[Array, "b n"]:
    """The mask of each example; it depends on the example's position in the data alone."""
    rows, columns = (side // model.patch_size for side in image_size)
    num_patches = rows * columns
    count = model.num_visible(num_patches)

    def mask(position: Int[Array, ""]) -> Bool[Array, " n"]:
        return random_visible(jax.random.fold_in(jax.random.key(0), position), num_patches, count)

    return jax.vmap(mask)(positions)


def _with_positions(
    batches: Iterator[dict[str, Shaped[np.ndarray, "b ..."]]], batch_size: int
) -> Iterator[dict[str, Shaped[np.ndarray, "b ..."]]]:
    """Adds the position of each example in the data to this host's rows of the batches."""
    for number, batch in enumerate(batches):
        size = len(batch["valid"])
        first = number * batch_size + jax.process_index() * size
        yield {**batch, "position": np.arange(first, first + size, dtype=np.int32)}


def evaluator(
    model: MAE,
    data: ClassificationData,
    examples: Dataset,
    batch_size: int,
    put: Put,
    norm_pix_loss: bool,
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """A function of the variables that gives the figures over all examples; compiles once.

    ``loss`` is the training loss. ``psnr`` is ``-10 log10(mean squared error)`` in decibels, over
    the hidden pixels in 0..1. If the model predicts normalised patches, each predicted patch gets
    the brightness and contrast of the original patch (see `zoo.predict.reconstruct`).

    Args:
        model: A masked autoencoder.
        data: Says how images are normalised.
        examples: The examples to evaluate on.
        batch_size: Number of examples at a time; the figures do not depend on it.
        put: Moves a batch to the devices.
        norm_pix_loss: Whether the model predicts normalised patches.

    Raises:
        InputError: While evaluating, if no image can be read.
    """

    @announced
    @jax.jit
    def score(
        variables: Mapping[str, Any], batch: dict[str, Any]
    ) -> dict[str, Float[jax.Array, " b"]]:
        images = normalize(batch["image"], data.mean, data.std)
        visible = fixed_masks(model, batch["position"], data.image_size)
        predicted = _predict(model, variables, images, visible)
        patches = patchify(images, model.patch_size)
        errors = patch_errors(predicted, patches, norm_pix_loss=norm_pix_loss)
        restored = reconstruct(predicted, visible, images, norm_pix_loss=norm_pix_loss)
        restored = to_pixels(restored, data)
        squares = (restored - batch["image"] / 255.0) ** 2
        squares = patchify(squares, model.patch_size).mean(axis=-1)
        hidden = ~visible
        share = hidden / jnp.maximum(hidden.sum(axis=1, keepdims=True), 1)
        return {"loss": jnp.sum(errors * share, axis=1), "square": jnp.sum(squares * share, axis=1)}

    def evaluate(variables: Mapping[str, Any]) -> dict[str, float]:
        losses, squares = [], []
        shares = eval_batches(examples, batch_size, **this_process())
        host_batches = _with_positions(iter(shares), batch_size)
        with closing(prefetch(host_batches, lambda host: (host, put(host)))) as batches:
            for host, batch in batches:
                found = fetch_rows(score(variables, batch))
                losses += found["loss"][host["valid"]].tolist()
                squares += found["square"][host["valid"]].tolist()
        parts = zip(*gather((losses, squares)), strict=True)
        losses, squares = (list(itertools.chain(*part)) for part in parts)
        if not losses:
            raise InputError(f"none of the {len(examples)} images can be read")
        square = math.fsum(squares) / len(squares)
        psnr = -10 * math.log10(max(square, 1e-10))
        return {"loss": math.fsum(losses) / len(losses), "psnr": psnr}

    return evaluate


def _predict(
    model: MAE,
    variables: Mapping[str, Any],
    images: Float[Array, "b h w c"],
    visible: Bool[Array, "b n"],
) -> Float[Array, "b n ppc"]:
    output: Any = model.apply(variables, images, visible)
    return output.patches


def to_pixels(images: Float[Array, "b h w c"], data: ClassificationData) -> Float[Array, "b h w c"]:
    """Undoes the normalisation; the result is in 0..1."""
    return jnp.clip(images * jnp.asarray(data.std) + jnp.asarray(data.mean), 0, 1)


def drawer(
    model: Any,
    data: ClassificationData,
    examples: Dataset,
    norm_pix_loss: bool,
    statistics: Statistics = "patch",
    count: int = 8,
) -> Callable[[Mapping[str, Any], Path], None]:
    """A function of the variables and a path that draws `count` examples spread over the data.

    Args:
        model: A masked autoencoder.
        data: Says how images are normalised.
        examples: The data to choose examples from.
        norm_pix_loss: Whether the model predicts normalised patches.
        statistics: Where the brightness and contrast of normalised patches come from; see
            `zoo.predict.reconstruct`.
        count: Number of examples.
    """
    spread = np.linspace(0, len(examples) - 1, min(count, len(examples))).astype(np.int32)
    caption = f"{_CAPTION[statistics]} (norm_pix_loss)" if norm_pix_loss else ""

    @jax.jit
    def restore(
        variables: Mapping[str, Any],
        pictures: UInt8[Array, "b h w c"],
        positions: Int[Array, " b"],
    ) -> tuple[Float[Array, "b h w c"], Bool[Array, "b h w 1"]]:
        images = normalize(pictures, data.mean, data.std)
        visible = fixed_masks(model, positions, data.image_size)
        predicted = _predict(model, variables, images, visible)
        restored = reconstruct(
            predicted, visible, images, norm_pix_loss=norm_pix_loss, statistics=statistics
        )
        p = model.patch_size
        seen = jnp.broadcast_to(visible[:, :, None], (*visible.shape, p * p))
        return to_pixels(restored, data), unpatchify(seen, p, data.image_size)

    def draw(variables: Mapping[str, Any], path: Path) -> None:
        shown = [(i, examples.example(int(i), np.random.default_rng(0))) for i in spread]
        shown = [(i, example) for i, example in shown if example["valid"]]
        if not shown:
            return
        pictures = np.stack([np.asarray(example["image"], np.uint8) for _, example in shown])
        positions = np.asarray([i for i, _ in shown], np.int32)
        restored, seen = fetch_whole(restore(variables, pictures, positions))
        draw_reconstructions(pictures / 255.0, seen, restored, caption, path)

    return draw


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a checkpoint of a run, and draws; returns its figures."""
    console = Console(markup=False, highlight=False)
    if arguments.pictures < 1:
        raise InputError(f"--pictures is {arguments.pictures}, but must be at least 1")
    run = open_run(arguments, ClassificationData)
    if (norm_pix_loss := run.task.get("loss", run.task).get("norm_pix_loss")) is None:
        raise InputError(f"{arguments.workdir}/config.json: not of a masked autoencoder's run")
    model: Any = run.model
    data = run.data
    examples = open_classification(data, "eval", class_names=run.class_names)
    evaluate = evaluator(model, data, examples, run.batch_size, run.put, norm_pix_loss)
    figures = evaluate(run.variables)
    console.print(
        f"{len(examples) - examples.skipped} examples, step {run.step}:"
        f" loss {figures['loss']:.4f}  psnr {figures['psnr']:.2f} dB"
    )
    path = arguments.workdir / "reconstructions.png"
    draw = drawer(model, data, examples, norm_pix_loss, arguments.statistics, arguments.pictures)
    draw(run.variables, path)
    console.print(f"reconstructions: {path}", soft_wrap=True)
    return {**figures, "step": run.step, "skipped": examples.skipped}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for bad input."""
    parser = make_parser("reconstruction", (__doc__ or "").splitlines()[0])
    add_run_arguments(parser, batch_size=256)
    parser.add_argument(
        "--statistics",
        choices=["patch", "visible"],
        default="patch",
        help="whence a normalised patch has brightness and contrast: its original, or what is seen",
    )
    parser.add_argument("--pictures", type=int, default=8, help="images to draw")
    return run_command(parser, evaluate_run, argv)


if __name__ == "__main__":
    sys.exit(main())
