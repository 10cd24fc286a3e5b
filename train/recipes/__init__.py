"""Recipes: functions that return the configuration of a run, in one file for each family.

Every public function in these files is a recipe with the name of the function. `parts` holds the
settings that several recipes share.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

from train.config import Config


def _recipes() -> dict[str, Callable[[], Config]]:
    """The public functions that the files define, by name."""
    found: dict[str, Callable[[], Config]] = {}
    for file in pkgutil.iter_modules(__path__):
        if not file.ispkg:
            module = importlib.import_module(f"{__name__}.{file.name}")
            for name, value in vars(module).items():
                own = inspect.isfunction(value) and value.__module__ == module.__name__
                if own and not name.startswith("_"):
                    found[name] = value
    return dict(sorted(found.items()))


RECIPES = _recipes()
