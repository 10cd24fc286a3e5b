"""The wheel requires what `zoo` imports; a checkout also what `train` and `eval` import."""

import ast
import importlib.metadata
import re
import sys
import tomllib

import pytest

from tests.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = {"zoo", "train", "eval"}
# Required without an import statement: jaxlib belongs to jax, TFDS needs two packages without
# declaring them, and tokenizers is imported by its name.
UNSEEN = {"array-record", "importlib-resources", "jaxlib", "tokenizers"}
# Optional: imported only by the calls that need them; if one is missing, the error names it.
ASKED_FOR = {"huggingface-hub", "num2words", "sentencepiece"}


def names(requirements):
    """The names of the required packages, normalised as in PEP 503."""
    found = (re.split(r"[\[<>=]", text)[0] for text in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


REQUIRED, CHECKOUT = names(PROJECT["dependencies"]), names(EXTRAS["checkout"])


HOMES = importlib.metadata.packages_distributions()


def imported(package):
    """The distributions of every module that is imported anywhere in a package."""
    modules = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    others = modules - OWN - sys.stdlib_module_names
    return {module: names(HOMES.get(module, [module])) for module in others}


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("zoo", REQUIRED | ASKED_FOR),
        ("train", REQUIRED | CHECKOUT),
        ("eval", REQUIRED | CHECKOUT),
    ],
)
def test_what_is_imported_is_required(package, allowed):
    found = imported(package)
    assert {module for module, homes in found.items() if not homes & allowed} == set()


def test_what_is_required_is_imported():
    of_zoo = set().union(*imported("zoo").values())
    assert REQUIRED - of_zoo == UNSEEN
    of_all = of_zoo.union(*imported("train").values(), *imported("eval").values())
    assert CHECKOUT <= of_all
