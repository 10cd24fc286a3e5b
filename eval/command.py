"""Command-line code that all evaluation scripts share.

It does not import JAX: scoring files does not need it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.types import InputError
from zoo.writing import write_whole

Evaluate = Callable[[argparse.Namespace], Mapping[str, Any] | None]
Check = Callable[[argparse.ArgumentParser, argparse.Namespace], None]


def make_parser(script: str, description: str) -> argparse.ArgumentParser:
    """The parser of ``python -m eval.SCRIPT``."""
    return argparse.ArgumentParser(prog=f"python -m eval.{script}", description=description)


def add_run_arguments(
    parser: argparse.ArgumentParser,
    *,
    batch_size: int,
    required: bool = True,
    several: bool = False,
) -> None:
    """Adds the options of a script that evaluates a run, ``--json`` included.

    Args:
        parser: The parser of the script.
        batch_size: Default of ``--batch_size``.
        required: Whether ``--workdir`` must be given, because the script evaluates nothing else.
        several: Whether the script evaluates several runs, ``RUN ...`` instead of ``--workdir``.
    """
    add = parser.add_argument
    if several:
        add("runs", type=path, nargs="+", metavar="RUN", help="folder of a run")
    else:
        add("--workdir", type=path, required=required, help="folder of a run")
    add("--checkpoint", default="best", help="checkpoint: best (default), last, or a step")
    add("--json", type=path, help="file to write all figures to")
    add("--split", help="split to evaluate, instead of the run's own")
    add("--source", help="data to evaluate on, instead of the run's own")
    add("--data_dir", help="folder of TFDS's data sets, instead of the run's own")
    add("--batch_size", type=int, default=batch_size, help="examples of the run in a batch")


def path(text: str) -> Path:
    """A path with a leading ~ expanded: a shell does not expand it in --workdir=~/runs."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text).expanduser()


def run_command(
    parser: argparse.ArgumentParser,
    evaluate: Evaluate,
    argv: Sequence[str] | None,
    check: Check | None = None,
) -> int:
    """Runs a script; returns its exit code: 0, or 2 after an error, which is printed in one line.

    Args:
        parser: A parser with the options of `add_run_arguments` and the script's own.
        evaluate: Gets the options, prints the results and draws the plots. Returns the figures to
            write to ``--json``, or None to write nothing.
        argv: The command-line arguments; None takes those of the process.
        check: Calls ``parser.error`` if the options cannot be combined.
    """
    arguments = parser.parse_args(argv)
    if check:
        check(parser, arguments)
    try:
        _check_output(arguments.json)
        figures = evaluate(arguments)
        if arguments.json and figures is not None:
            write_whole(arguments.json, json.dumps(figures, indent=2) + "\n")
            print(f"figures: {arguments.json}")
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def figure(value: float, digits: int) -> str:
    """A figure in a table: "-" for -1, which means that there is nothing to compute it from."""
    return "-" if value == -1 else f"{value:.{digits}f}"


def _check_output(json_path: Path | None) -> None:
    """Raises an error, before anything is computed, if the file cannot be written."""
    if json_path and not json_path.parent.is_dir():
        raise InputError(f"--json: {json_path}: no folder {json_path.parent}")
    if json_path and json_path.is_dir():
        raise InputError(f"--json: {json_path}: is a folder")
