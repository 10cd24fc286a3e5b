"""k-NN probe: how well the training images with the nearest features predict an image's class.

python -m eval.knn --workdir=DIR [--checkpoint=best|last|STEP] [--neighbours=20] [--json=FILE]

Uses the features of a run's model, a masked autoencoder or a classifier, without any training. The
neighbours vote as in arXiv 1805.01978 and DINO (2104.14294).
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8
from rich.console import Console

from eval.command import add_run_arguments, make_parser, run_command
from eval.compiling import announced
from eval.runs import Put, open_run
from zoo.data import (
    ClassificationData,
    Dataset,
    eval_batches,
    normalize,
    open_classification,
    prefetch,
)
from zoo.data.devices import fetch_rows, gather, this_process
from zoo.types import InputError

TEMPERATURE = 0.07  # of the votes, as in arXiv 1805.01978


def vote(
    queries: Float[Array, "q d"],
    features: Float[Array, "n d"],
    labels: Int[Array, " n"],
    neighbours: int,
    num_classes: int,
) -> Float[Array, "q k"]:
    """The votes of the nearest features for each class: exp(s / 0.07) for a cosine similarity s.

    Args:
        queries: Features of unit length of the examples to classify.
        features: Features of unit length of known examples.
        labels: Classes of the known examples.
        neighbours: Number of known examples that vote.
        num_classes: Number of classes.
    """
    similarities, nearest = jax.lax.top_k(queries @ features.T, neighbours)
    weights = jnp.exp((similarities - 1) / TEMPERATURE)  # - 1 avoids overflow
    return jnp.sum(weights[:, :, None] * jax.nn.one_hot(labels[nearest], num_classes), axis=1)


def features_of(
    model: Any, data: ClassificationData
) -> Callable[[Mapping[str, Any], UInt8[Array, "b h w 3"]], Float[Array, "b d"]]:
    """A jitted function of variables and images that gives features of unit length."""
    has_features = hasattr(model, "features")
    extractor = model if has_features else model.clone(num_classes=0)
    method = "features" if has_features else "__call__"

    @announced
    @jax.jit
    def extract(
        variables: Mapping[str, Any], pictures: UInt8[Array, "b h w 3"]
    ) -> Float[Array, "b d"]:
        images = normalize(pictures, data.mean, data.std)
        x: Any = extractor.apply(variables, images, method=method)
        x = x.astype(jnp.float32)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

    return extract


def evaluator(
    model: nn.Module,
    data: ClassificationData,
    examples: Dataset,
    batch_size: int,
    put: Put,
    neighbours: int = 20,
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """A function of the variables that gives ``knn_top1``, the share classified correctly.

    Args:
        model: Has a method ``features``, or a field ``num_classes`` that can be 0.
        data: Its training images, without augmentation, are the neighbours.
        examples: The examples to evaluate on, with the same classes.
        batch_size: Number of examples at a time.
        put: Moves a batch to the devices.
        neighbours: Number of neighbours that vote; all of them if there are fewer.

    Raises:
        InputError: If `neighbours` is below 1, or, while evaluating, if no image can be read.
    """
    if neighbours < 1:
        raise InputError(f"the k-NN probe has {neighbours} neighbours, but needs at least 1")
    known = open_classification(
        dataclasses.replace(data, eval_split=data.train_split), "eval", examples.class_names
    )
    extract = features_of(model, data)
    elect = jax.jit(vote, static_argnums=(3, 4))

    def evaluate(variables: Mapping[str, Any]) -> dict[str, float]:
        features, labels = _collect(partial(extract, variables), known, batch_size, put)
        queries, right = _collect(partial(extract, variables), examples, batch_size, put)
        hits = 0
        for start in range(0, len(queries), batch_size):
            votes = elect(
                queries[start : start + batch_size],
                features,
                labels,
                min(neighbours, len(features)),
                examples.num_classes,
            )
            hits += int(np.sum(np.argmax(votes, axis=1) == right[start : start + batch_size]))
        return {"knn_top1": hits / len(right)}

    return evaluate


def _collect(
    extract: Callable[[UInt8[Array, "b h w 3"]], Float[Array, "b d"]],
    dataset: Dataset,
    batch_size: int,
    put: Put,
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    """The features and labels of all examples that can be read, on every host."""
    found, labels = [], []
    shares = eval_batches(dataset, batch_size, **this_process())
    batches = prefetch(shares, lambda host: (host, put(host)))
    with closing(batches):
        for host, batch in batches:
            x = fetch_rows(extract(batch["image"]))
            found.append(x[host["valid"]])
            labels.append(host["label"][host["valid"]])
    of_hosts = gather((np.concatenate(found), np.concatenate(labels)))
    features, labels = (np.concatenate(parts) for parts in zip(*of_hosts, strict=True))
    if not len(labels):
        raise InputError(f"none of the {len(dataset)} images can be read")
    return features, labels


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Probes a checkpoint of a run; returns its figures."""
    run = open_run(arguments, ClassificationData)
    examples = open_classification(run.data, "eval", class_names=run.class_names)
    evaluate = evaluator(
        run.model, run.data, examples, run.batch_size, run.put, arguments.neighbours
    )
    figures = evaluate(run.variables)
    Console(markup=False, highlight=False).print(
        f"{len(examples) - examples.skipped} examples, step {run.step},"
        f" {arguments.neighbours} neighbours: knn_top1 {figures['knn_top1']:.4f}"
    )
    return {**figures, "step": run.step, "neighbours": arguments.neighbours}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for bad input."""
    parser = make_parser("knn", (__doc__ or "").splitlines()[0])
    add_run_arguments(parser, batch_size=256)
    parser.add_argument("--neighbours", type=int, default=20, help="training images that vote")
    return run_command(parser, evaluate_run, argv)


if __name__ == "__main__":
    sys.exit(main())
