"""Public names of version 0.1, for programs that import them; they are in `zoo.text.tokenizers`."""

import warnings

from zoo.text.tokenizers import (
    END,
    MARIAN,
    PAD,
    START,
    TOKENIZER,
    BytePairs,
    MarianPieces,
    Tokenizer,
    open_tokenizer,
)

__all__ = [
    "END",
    "MARIAN",
    "PAD",
    "START",
    "TOKENIZER",
    "BytePairs",
    "MarianPieces",
    "Tokenizer",
    "open_tokenizer",
]

warnings.warn(
    "zoo.data.text is the place of version 0.1: import from zoo.text.tokenizers",
    DeprecationWarning,
    stacklevel=2,
)
