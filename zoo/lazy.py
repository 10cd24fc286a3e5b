"""Lazy imports: a package imports a name when the name is first used (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """Returns the ``__getattr__`` and the ``__all__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: The module that each name is imported from.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return get, sorted(homes)
