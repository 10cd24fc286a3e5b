"""The one error of this package."""

from zoo.types import InputError


class DataError(InputError):
    """Data that cannot be used."""
