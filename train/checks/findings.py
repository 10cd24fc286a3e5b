"""What a check finds."""

import dataclasses
from collections.abc import Sequence

from rich.table import Table


@dataclasses.dataclass
class Findings:
    """What there is to show, and what is wrong.

    Attributes:
        table: The classes.
        notes: Lines that tell what was read and how.
        problems: Lines that tell what is wrong, and what to do.
    """

    table: Table
    notes: list[str]
    problems: list[str]


def class_table(names: Sequence[str], columns: dict[str, Sequence[object]]) -> Table:
    """A row for each class: its label, what the columns have for it, its name; at most 100."""
    table = Table(title=None if len(names) <= 100 else f"the first 100 of {len(names)} classes")
    table.add_column("label", justify="right")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("class")
    for label, name in enumerate(names[:100]):
        table.add_row(str(label), *(str(values[label]) for values in columns.values()), name)
    return table
