"""The one error of this package."""


class DataError(ValueError):
    """Data that cannot be used. One line: what is wrong, where, and what is allowed."""
