"""The result of a check."""

import dataclasses
from collections.abc import Sequence

from rich.table import Table


@dataclasses.dataclass
class Findings:
    """The information and the problems that a check found.

    Attributes:
        table: A table of the classes.
        notes: One line for each note on what was read, and how.
        problems: One line for each problem, and how to solve it.
    """

    table: Table
    notes: list[str]
    problems: list[str]


def class_table(names: Sequence[str], columns: dict[str, Sequence[object]]) -> Table:
    """A row for each of the first 100 classes: label, its values in the columns, and name."""
    table = Table(title=None if len(names) <= 100 else f"the first 100 of {len(names)} classes")
    table.add_column("label", justify="right")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("class")
    for label, name in enumerate(names[:100]):
        table.add_row(str(label), *(str(values[label]) for values in columns.values()), name)
    return table
