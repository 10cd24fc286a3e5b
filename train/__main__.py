"""python -m train RECIPE --workdir=DIR --field.sub=value ...

Trains a recipe, or continues the run in DIR. Without a recipe, lists all recipes; with --help after
the recipe, lists its fields with their values, meaning and choices.
"""

import sys
import traceback
from collections.abc import Sequence

import jax
from etils import epath
from rich.console import Console
from rich.table import Table

from train.config import ConfigError, override
from train.disk import DiskError
from train.fields import show_fields
from train.hosts import join, leave
from train.loop import DivergedError, train
from train.recipes import RECIPES
from zoo.registry import unknown
from zoo.types import InputError


def main(arguments: Sequence[str]) -> int:
    """Runs the command line.

    Returns:
        The exit code: 0, after SIGTERM too; 1 if training fails; 2 for bad input; 130 after Ctrl-C.
    """
    console = Console(markup=False, highlight=False)
    if not arguments or arguments[0] in ("-h", "--help"):
        _list_recipes(console)
        return 0
    try:
        return _train(arguments[0], list(arguments[1:]), console)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return leave(2)
    except (DivergedError, DiskError) as error:
        print(f"error: {error}", file=sys.stderr)
        return leave(1)
    except jax.errors.JaxRuntimeError as error:
        if not jax.distributed.is_initialized():
            raise
        print(
            f"error: {str(error).splitlines()[0]}\n"
            "If another process of this run has ended, this is the cause: start all processes"
            " again, and the run continues from its last checkpoint.",
            file=sys.stderr,
        )
        return leave(1)
    except BaseException:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        return leave(1)


def _train(recipe: str, arguments: list[str], console: Console) -> int:
    if recipe not in RECIPES:
        raise ConfigError(unknown("recipe", recipe, RECIPES))
    workdirs = [text for text in arguments if text.startswith("--workdir=")]
    overrides = [text for text in arguments if text not in workdirs]
    if "--workdir=" in workdirs:
        raise ConfigError("--workdir is empty")
    if "--help" in overrides or "-h" in overrides:
        overrides = [text for text in overrides if text not in ("--help", "-h")]
        show_fields(console, override(RECIPES[recipe](), overrides))
        return 0
    config = override(RECIPES[recipe](), overrides)
    workdir = workdirs[-1].partition("=")[2] if workdirs else f"runs/{recipe}"
    workdir = epath.Path(workdir).expanduser()
    join(config.distributed)
    if jax.process_index():
        console.quiet = True
    result = train(config, workdir, console)
    if result.signal is not None:
        console.print(
            f"{result.signal.name}: saved {workdir} after step {result.step}; the same command"
            " continues from there",
            soft_wrap=True,
        )
        return 0 if result.signal.name == "SIGTERM" else 130
    if result.skipped:
        console.print(f"{result.skipped} images could not be read and were skipped")
    figures = "  ".join(f"{name} {value:.4f}" for name, value in result.figures.items())
    console.print(f"done after {result.step} steps: {figures}")
    curve = workdir / "learning_curve.png"
    console.print(f"learning curve: {curve}", soft_wrap=True)
    return 0


def _list_recipes(console: Console) -> None:
    """Prints one line for each recipe: its name and the first line of its docstring."""
    console.print((__doc__ or "").strip())
    table = Table(box=None)
    table.add_column("recipe")
    table.add_column("what it is")
    for name, recipe in sorted(RECIPES.items()):
        table.add_row(name, (recipe.__doc__ or "").splitlines()[0])
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
