"""Vision models in JAX and Flax: create, load, train, evaluate."""

from typing import TYPE_CHECKING

from zoo.lazy import attach
from zoo.predict import predict  # the function before the package of its name

if TYPE_CHECKING:
    from zoo.described import class_names, preprocessing
    from zoo.loading import load, load_with_report, save
    from zoo.registry import create, list_models
    from zoo.text.translator import translate

__getattr__, _ = attach(
    __name__,
    {
        "class_names": "zoo.described",
        "create": "zoo.registry",
        "list_models": "zoo.registry",
        "load": "zoo.loading",
        "load_with_report": "zoo.loading",
        "preprocessing": "zoo.described",
        "save": "zoo.loading",
        "translate": "zoo.text.translator",
    },
)

__all__ = [
    "class_names",
    "create",
    "list_models",
    "load",
    "load_with_report",
    "predict",
    "preprocessing",
    "save",
    "translate",
]
