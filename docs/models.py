"""Writes the tables of models from the declarations of their families.

    python docs/models.py            # writes docs/models.md and the table in README.md
    python docs/models.py --check    # writes nothing; the exit code is 1 if a table differs

Only the text between the markers `<!-- families: python docs/models.py -->` and `<!-- end -->` is
rewritten. The numbers of parameters are read from tests/golden/parameter_counts.json, which the
tests compare with the models.
"""

import argparse
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from train.recipes import RECIPES
from zoo.family import Family, Variant
from zoo.registry import FAMILIES, MODELS

ROOT = Path(__file__).parents[1]
START, END = "<!-- families: python docs/models.py -->\n", "<!-- end -->"
_COUNTS = ROOT / "tests" / "golden" / "parameter_counts.json"

# Names of checkpoint sources in the tables, if they differ from the words that `zoo.load` takes.
_SOURCES = {
    "fair": "FAIR",
    "huggingface": "Hugging Face",
    "smp": "segmentation_models_pytorch",
    "torch": "`torch.nn`",
}
# For each task, the function that predicts from one image or one text.
_USES = {
    "classification": "`zoo.predict`",
    "detection": "`zoo.predict`",
    "segmentation": "`zoo.predict`",
    "pretraining": "`zoo.predict.reconstruct`",
    "text": "`zoo.translate`",
}


def readme_table() -> str:
    """The table in README.md, with one row for each family."""
    rows = [
        (
            family.title,
            f"{len(family.variants)}: {family.summary}",
            arxiv(family.paper),
            ", ".join(sources(family)) or "-",
            family_parity(family),
        )
        for family in FAMILIES
    ]
    return table(("family", "models", "paper", "checkpoints of", "parity"), rows)


def models_page() -> str:
    """The tables of docs/models.md."""
    return "\n".join((_names(), _calls(), _uses()))


def _names() -> str:
    counts = json.loads(_COUNTS.read_text())
    rows = []
    for name in sorted(MODELS):
        family = MODELS[name]
        paper = family.variants[name].paper or family.paper
        origin = "for tests and demos" if is_small(name) else arxiv(paper)
        pixels = size(family.variants[name])
        rows.append((f"`{name}`", origin, pixels, f"{counts[name]:,}", parity(family, name)))
    return table(("name", "paper", "image", "parameters", "parity"), rows)


def _calls() -> str:
    rows = [(family.title, family.task, *signature(family)) for family in FAMILIES]
    return table(("family", "task", "called with", "gives", "further methods"), rows)


def _uses() -> str:
    rows = [
        (
            family.title,
            family.reference,
            ", ".join(sources(family)) or "-",
            ", ".join(f"`{name}`" for name in recipes(family)) or "-",
            _USES[family.task],
            "yes" if family.is_backbone else "-",
        )
        for family in FAMILIES
    ]
    head = ("family", "as in", "checkpoints of", "recipes", "used by", "backbone")
    return table(head, rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Formats a Markdown table."""
    head = tuple(head)
    first, *others = (f"| {' | '.join(line)} |\n" for line in (head, *rows))
    return "".join((first, "|" + "---|" * len(head) + "\n", *others))


def arxiv(number: str) -> str:
    """A Markdown link to a paper on arXiv."""
    return f"[{number}](https://arxiv.org/abs/{number})"


def sources(family: Family) -> list[str]:
    """The other projects whose checkpoints can be loaded, in the order in which they are tried."""
    others = (x.source for x in family.names if x.source != "zoo")
    return list(dict.fromkeys(_SOURCES.get(source, source) for source in others))


def recipes(family: Family) -> list[str]:
    """The recipes that train one of the family's models."""
    return [name for name, make in RECIPES.items() if make().model.name in family.variants]


def is_small(name: str) -> bool:
    """Whether a model is in no paper, and only made for tests and demos."""
    return "nano" in name.split("_")


def size(variant: Variant) -> str:
    """Height and width in pixels of the images that a model is made for."""
    how = variant.preprocessing
    return f"{how.size[0]} x {how.size[1]}" if how else "-"


def parity(family: Family, name: str) -> str:
    """How a model was compared with its reference implementation."""
    if found := family.variants[name].parity:
        return found
    return "tiny goldens" if is_small(name) or not measured(family) else "same code"


def measured(family: Family) -> list[str]:
    """The largest differences of a family's full-size models from the reference, as text."""
    remarks = (variant.parity or "" for variant in family.variants.values())
    return [figure for remark in remarks for figure in re.findall(r"[\d.]+e-\d+", remark)]


def family_parity(family: Family) -> str:
    """The largest difference of any full-size model of the family."""
    return max(measured(family), key=float, default="tiny goldens" if family.names else "-")


def signature(family: Family) -> tuple[str, str, str]:
    """The inputs and output of the module's call, and the other methods with its first input."""
    call = inspect.signature(family.module.__call__)
    taken = list(call.parameters.values())[1:]
    inputs = [x for x in taken if x.kind is x.POSITIONAL_OR_KEYWORD]
    methods = [
        f"`{name}`"
        for name, method in vars(family.module).items()
        if inspect.isfunction(method) and not name.startswith("_") and takes(method, inputs[0])
    ]
    called = ", ".join(f"`{x.name} {shape(x.annotation)}`" for x in inputs)
    return called, f"`{shape(call.return_annotation)}`", ", ".join(methods) or "-"


def takes(method: Callable, first: inspect.Parameter) -> bool:
    """Whether a method's first argument has the same name as the call's first argument."""
    names = list(inspect.signature(method).parameters)[1:2]
    return names == [first.name]


def shape(annotation: Any) -> str:
    """The shape in the annotation of an array, or the field names of an input or output."""
    for part in (annotation, *get_args(annotation)):
        if dataclasses.is_dataclass(part):
            fields = [field.name for field in dataclasses.fields(part)]
            return f"{part.__name__}({', '.join(fields)})"
        if hasattr(part, "dim_str"):
            return f"[{part.dim_str}]"
    raise TypeError(f"{annotation} is no array, and no dataclass of arrays")


def between_markers(text: str, new: str) -> str:
    """The text of a page with the part between the markers replaced."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{new}{END}{after}"


def pages() -> dict[Path, str]:
    """The text that each page should have."""
    parts = {ROOT / "README.md": readme_table(), ROOT / "docs" / "models.md": models_page()}
    return {path: between_markers(path.read_text(), part) for path, part in parts.items()}


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(arguments).check
    changed = {path: text for path, text in pages().items() if path.read_text() != text}
    for path, text in changed.items():
        name = path.relative_to(ROOT)
        print(f"{name} differs: run python docs/models.py" if check else f"{name} written")
        if not check:
            path.write_text(text)
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
