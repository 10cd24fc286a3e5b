"""Reads and writes checkpoints in the names of any source.

Functions that look up a model's family are in `zoo.loading`, which imports the registry. Its
`load_report` and `load_variables` can also be imported from here, where users look for them. Every
name is imported when it is first used.
"""

from zoo.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "METADATA": "zoo.weights.files",
        "Checkpoint": "zoo.weights.files",
        "LoadReport": "zoo.weights.convert",
        "fetch": "zoo.weights.hub",
        "load_report": "zoo.loading",
        "load_variables": "zoo.loading",
        "open_checkpoint": "zoo.weights.files",
    },
)
