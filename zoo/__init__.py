"""Vision models in JAX and Flax: create, load, train, evaluate."""

from zoo.registry import create, list_models, preprocessing

__all__ = ["create", "list_models", "preprocessing"]
