"""Public names of version 0.1, for programs that import them; they are in `zoo.text.translator`."""

import warnings
from typing import TYPE_CHECKING

from zoo.lazy import attach

if TYPE_CHECKING:
    from zoo.text.translator import EXTRA, Translator, open_translator, search_rules, translate

__getattr__, _ = attach(
    __name__,
    dict.fromkeys(
        ("EXTRA", "Translator", "open_translator", "search_rules", "translate"),
        "zoo.text.translator",
    ),
)

__all__ = ["EXTRA", "Translator", "open_translator", "search_rules", "translate"]

warnings.warn(
    "zoo.translator is the place of version 0.1: import from zoo.text.translator",
    DeprecationWarning,
    stacklevel=2,
)
