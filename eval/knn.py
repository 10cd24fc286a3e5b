"""k-NN probe: how well the nearest training images, by their features, name an image's class.

python -m eval.knn --workdir=DIR [--checkpoint=best|last|STEP] [--neighbours=20] [--json=FILE]

Takes the features of a run's model, a masked autoencoder or a classifier, as they are: nothing is
trained. The neighbours vote as in DINO (arXiv 2104.14294) and before it in 1805.01978.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from rich.console import Console

from eval.arguments import add_run_arguments
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
    """The votes for each class of the nearest features, by cosine similarity s: exp(s / 0.07).

    Args:
        queries: Features of unit length of what is to be named.
        features: Features of unit length of known examples.
        labels: Their classes.
        neighbours: How many of them vote.
        num_classes: Classes that there are.
    """
    similarities, nearest = jax.lax.top_k(queries @ features.T, neighbours)
    weights = jnp.exp((similarities - 1) / TEMPERATURE)  # less 1, so that none overflows
    return jnp.sum(weights[:, :, None] * jax.nn.one_hot(labels[nearest], num_classes), axis=1)


def features_of(
    model: Any, data: ClassificationData
) -> Callable[[Mapping[str, Any], Array], Array]:
    """A jitted function of variables and uint8 images to features ``[b d]`` of unit length."""
    has_features = hasattr(model, "features")
    extractor = model if has_features else model.clone(num_classes=0)
    method = "features" if has_features else "__call__"

    @jax.jit
    def extract(variables: Mapping[str, Any], pictures: Array) -> Array:
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
    """A function of the variables that gives ``knn_top1``, the share that is named rightly.

    Args:
        model: Has a method ``features``, or a field ``num_classes`` that can be 0.
        data: Its training images, without augmentation, are the neighbours.
        examples: What to evaluate on; labels are of the same classes.
        batch_size: Examples at a time.
        put: Moves a batch to the devices.
        neighbours: How many vote; all of them if there are fewer.

    Raises:
        InputError: If no neighbour is to vote, or, while evaluating, no image can be read.
    """
    if neighbours < 1:
        raise InputError(f"the k-NN probe has {neighbours} neighbours, but needs at least 1")
    known = open_classification(
        dataclasses.replace(data, eval_split=data.train_split), "eval", examples.class_names
    )
    extract = features_of(model, data)
    elect = jax.jit(vote, static_argnums=(3, 4))

    def collect(variables: Mapping[str, Any], dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        found, labels = [], []
        shares = eval_batches(dataset, batch_size, **this_process())
        batches = prefetch(shares, lambda host: (host, put(host)))
        with closing(batches):
            for host, batch in batches:
                x = fetch_rows(extract(variables, batch["image"]))
                found.append(x[host["valid"]])
                labels.append(host["label"][host["valid"]])
        everyones = gather((np.concatenate(found), np.concatenate(labels)))
        features, labels = (np.concatenate(parts) for parts in zip(*everyones, strict=True))
        if not len(labels):
            raise InputError(f"none of the {len(dataset)} images can be read")
        return features, labels

    def evaluate(variables: Mapping[str, Any]) -> dict[str, float]:
        features, labels = collect(variables, known)
        queries, right = collect(variables, examples)
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


def evaluate_run(arguments: argparse.Namespace, console: Console) -> None:
    """Probes a checkpoint of a run."""
    run = open_run(arguments, ClassificationData)
    examples = open_classification(run.data, "eval", class_names=run.class_names)
    evaluate = evaluator(
        run.model, run.data, examples, run.batch_size, run.put, arguments.neighbours
    )
    figures = evaluate(run.variables)
    console.print(
        f"{len(examples) - examples.skipped} examples, step {run.step},"
        f" {arguments.neighbours} neighbours: knn_top1 {figures['knn_top1']:.4f}"
    )
    if arguments.json:
        figures |= {"step": run.step, "neighbours": arguments.neighbours}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
        console.print(f"figures: {arguments.json}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.knn", description=(__doc__ or "").splitlines()[0]
    )
    add_run_arguments(parser, batch_size=256)
    parser.add_argument("--neighbours", type=int, default=20, help="training images that vote")
    try:
        evaluate_run(parser.parse_args(arguments), Console(markup=False, highlight=False))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
