"""Options that the evaluation scripts share; light, so that files can be scored without JAX."""

import argparse
from pathlib import Path


def add_run_arguments(
    parser: argparse.ArgumentParser, *, batch_size: int, required: bool = True
) -> None:
    """Adds the options of a script that evaluates a run, ``--json`` included.

    Args:
        parser: The script's.
        batch_size: Default of the examples at a time.
        required: Whether a run is all that the script can evaluate.
    """
    add = parser.add_argument
    add("--workdir", type=path, required=required, help="folder of a run")
    add("--checkpoint", default="best", help="of the run: best (default), last, or a step")
    add("--json", type=path, help="file for every figure")
    add("--split", help="split to evaluate, instead of the run's own")
    add("--source", help="data to evaluate on, instead of the run's own")
    add("--data_dir", help="where TFDS has them, instead of the run's own")
    add("--batch_size", type=int, default=batch_size, help="examples of the run at a time")


def path(text: str) -> Path:
    """A path that may begin with ~, which a shell leaves alone in --workdir=~/runs."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text).expanduser()
