"""The error of this package."""

from collections.abc import Sequence

from zoo.types import InputError


class DataError(InputError):
    """Data that cannot be used."""


def some(names: Sequence[str]) -> str:
    """Text for messages: up to ten names, and their number if there are more."""
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
