"""Evaluation scripts: python -m eval.TASK."""

import sys
from importlib.util import find_spec


def _refuse_if_hidden(name: str) -> None:
    """Says so, and ends, if a file of the current folder such as zoo.py hides a package.

    A command prints the line and ends with exit code 2; in a program it is an ImportError.
    """
    spec = find_spec(name)
    if spec is None or spec.submodule_search_locations is not None:
        return
    text = (
        f"{spec.origin} hides the package {name}, because Python looks in the current folder first:"
        " rename the file, or start python with -P, as in python -P -m eval.TASK"
    )
    if sys.argv[:1] != ["-m"]:  # what it is while Python looks for the module of `python -m`
        raise ImportError(text)
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


_refuse_if_hidden("zoo")
