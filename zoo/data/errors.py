"""The one error of this package."""

from collections.abc import Sequence

from zoo.types import InputError


class DataError(InputError):
    """Data that cannot be used."""


def some(names: Sequence[str]) -> str:
    """For messages: the first names, and how many there are if those are not all."""
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
