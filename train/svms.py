"""Fits the SVMs and the box regressions of an R-CNN or SPP-net.

    python -m train.svms --workdir=DIR --images=N

They are fitted to the features of the network in DIR, which has been trained with a softmax: see
`train.region_svms`. The result is a run in DIR/svms, which `zoo.load`, and the command ``python -m
eval.detection --workdir=DIR/svms``, read as any other. The run in DIR stays as it is.
"""

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from eval.command import add_run_arguments, make_parser, path, run_command
from eval.detectors import proposals_of
from eval.progress import track
from eval.runs import Run, open_run
from train.checkpoint import Checkpointer
from train.region_svms import ImageRegions, RegionFunctions, fit_regions
from train.step import Metrics, TrainState
from zoo.data import Dataset, DetectionData, eval_batches, normalize, open_detection, valid_pixels
from zoo.models.detection.parts.decode import ROI_CODER
from zoo.models.detection.parts.region_classifier import region_features
from zoo.models.detection.parts.samples import take
from zoo.ops.boxes import iou
from zoo.outputs import Proposals
from zoo.types import InputError
from zoo.writing import write_whole

Compute = Callable[[Mapping[str, Any]], tuple[jax.Array, ...]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for bad input."""
    description = "Fits the SVMs and the box regressions of an R-CNN or SPP-net."
    parser = make_parser("svms", description)
    parser.prog = "python -m train.svms"
    add_run_arguments(parser, batch_size=8)
    parser.add_argument("--images", type=int, default=2000, help="training images to use at most")
    parser.add_argument("--output", type=path, help="folder to write to; default: DIR/svms")
    return run_command(parser, _fit, argv)


def _fit(arguments: argparse.Namespace) -> None:
    if arguments.images < 1:
        raise InputError(f"--images is {arguments.images}, but must be at least 1")
    run = open_run(arguments, DetectionData)
    if getattr(run.model, "classifier", None) != "softmax":
        raise InputError(
            f"{arguments.workdir}: SVMs replace the softmax of an R-CNN or SPP-net, which a"
            f" {type(run.model).__name__} of this run does not have"
        )
    if run.data.proposals is None:
        raise InputError(f"{arguments.workdir}: its data have no proposals")
    examples = _training_images(run)
    count = min(arguments.images, len(examples))
    compute = _compute(run)

    def images(what: str) -> Iterator[ImageRegions]:
        found = itertools.islice(_regions(run, examples, compute), count)
        return track(found, what, count)

    fitted = fit_regions(images, len(run.class_names))
    output = arguments.output or arguments.workdir / "svms"
    write_run(run, fitted, arguments.workdir, output)
    print(f"SVMs and box regressions of {count} images: {output}")


def _training_images(run: Run[DetectionData]) -> Dataset:
    """The training images, prepared as in evaluation."""
    data = dataclasses.replace(
        run.data,
        eval_split=run.data.train_split,
        eval_annotations=run.data.train_annotations,
        eval_images=run.data.train_images,
    )
    return open_detection(data, "eval", class_names=run.class_names, track=track)


def _compute(run: Run[DetectionData]) -> Compute:
    """A function of a batch that gives what belongs to the regions of its images.

    Regions are the proposals, and then the true boxes. The function gives their pooled features,
    their features, and of the proposals the IoU with the true boxes and the deltas to the best one.
    """

    @jax.jit
    def compute(batch: Mapping[str, Any]) -> tuple[jax.Array, ...]:
        images = normalize(batch["image"], run.data.mean, run.data.std)
        valid = valid_pixels(batch["size"], (images.shape[1], images.shape[2]))
        regions = proposals_of(batch)
        assert regions is not None
        both = Proposals(
            jnp.concatenate([regions.boxes, batch["boxes"]], axis=1),
            jnp.concatenate([regions.valid, batch["box_valid"]], axis=1),
        )
        found: Any = run.model.apply(run.variables, images, valid, both, method=region_features)
        overlaps = jnp.where(batch["box_valid"][:, None], iou(regions.boxes, batch["boxes"]), -1)
        best = take(batch["boxes"], overlaps.argmax(axis=-1))
        return *found, overlaps, ROI_CODER.encode(best, regions.boxes)

    return compute


def _regions(
    run: Run[DetectionData], examples: Dataset, compute: Compute
) -> Iterator[ImageRegions]:
    """The regions of the images, one after the other, without filling."""
    for host in eval_batches(examples, run.batch_size):
        found = jax.device_get(compute(run.put(host)))
        for row in np.flatnonzero(host["valid"]).tolist():
            pooled, features, overlaps, deltas = (x[row] for x in found)
            chosen, objects = host["proposals_valid"][row], host["box_valid"][row]
            of_proposals, of_objects = np.split(features, [len(chosen)])
            yield ImageRegions(
                of_proposals[chosen],
                pooled[: len(chosen)][chosen],
                overlaps[chosen][:, objects],
                deltas[chosen],
                host["labels"][row][objects],
                of_objects[objects],
            )


def write_run(
    run: Run[DetectionData], fitted: RegionFunctions, workdir: Path, output: Path
) -> None:
    """Writes a run whose model classifies with the SVMs, and refines boxes.

    Raises:
        InputError: If the folder holds a run already.
    """
    if (output / "config.json").exists():
        raise InputError(f"{output}: there is a run already; remove it, or give another --output")
    flat = {
        path: leaf
        for path, leaf in flatten_dict(dict(run.variables)).items()
        if path[:3] != ("params", "head", "logits")
    }
    for name, function in fitted._asdict().items():
        flat["params", "head", name, "kernel"] = jnp.asarray(function.weights, jnp.float32)
        flat["params", "head", name, "bias"] = jnp.asarray(function.bias, jnp.float32)
    variables = unflatten_dict(flat)
    params = variables.pop("params")

    output.mkdir(parents=True, exist_ok=True)
    key = jax.random.key_data(jax.random.key(0))
    state = TrainState(jnp.int32(run.step), key, params, variables, {}, None)
    metrics = Metrics({}, jnp.zeros(()), jnp.int32(-1))
    folder = epath.Path(output) / "checkpoints"
    with closing(Checkpointer(folder, 1, print)) as checkpoints:
        checkpoints.save(state, metrics, {}, step=run.step)
    config = json.loads((workdir / "config.json").read_text())
    config["model"]["fields"]["classifier"] = "svm"
    write_whole(output / "config.json", json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
