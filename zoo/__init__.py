"""Vision models in JAX and Flax: create, load, train, evaluate."""

from zoo.loading import load, load_with_report, save
from zoo.predict import predict
from zoo.registry import create, list_models, preprocessing
from zoo.translator import translate
from zoo.weights.run import class_names

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
