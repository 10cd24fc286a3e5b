"""Applies the worked example of docs/add_a_model.md to a copy, and runs the checks of the page."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import INDENTED, ROOT, read_blocks, read_commands

PAGE = "docs/add_a_model.md"
COPIED = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
    *("pyproject.toml", "hatch_build.py", "Makefile"),
)
FOLDERS = ("docs", "eval", "notebooks", "tests", "train", "zoo")
# Files to which the command that makes the golden adds lines; other files are changed by hand.
GENERATED = {"tests/golden/parameter_counts.json", "tests/golden/preprocessing.json"}
QUICK = ("docs/models.py", "zoo", "tests/test_docs_tables.py")
WITHOUT_GOLDEN = "convmixer and not has_a_golden"
SHORTER = {"train": ["--steps=2", "--eval_every=2"]}


def apply(root: Path) -> dict[str, tuple[int, int]]:
    """Writes new files and changes existing ones; gives added and removed lines of the latter."""
    changed = {}
    for block in read_blocks(PAGE):
        first, _, text = block.text.partition("\n")
        path = root / first[4:] if first.startswith("--- ") else root / first[2:]
        if block.language == "python":
            assert not path.exists(), f"{path} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        elif block.language == "diff":
            lines = text.split("\n")
            old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
            new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
            whole = path.read_text()
            assert whole.count(old) == 1, f"{path}: not once in it:\n{old}"
            path.write_text(whole.replace(old, new))
            signs = [line[:1] for line in lines]
            changed[str(path.relative_to(root))] = (signs.count("+"), signs.count("-"))
    return changed


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of this repository with the example in it."""
    root = tmp_path_factory.mktemp("copy")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        shutil.copy(ROOT / name, root / name)
    apply(root)
    return root


def checks() -> list[list[str]]:
    """The commands of the page, in order."""
    blocks = [block for block in read_blocks(PAGE) if block.language == INDENTED]
    return [words for block in blocks for _, words in read_commands(block)]


def command(words: list[str], root: Path) -> list[str]:
    """A command of the page, changed so that it runs in this environment."""
    match words:
        case ["make", target]:  # with the tools of this environment instead of a new one
            (root / "ready").touch()
            return ["make", target, f"BIN={Path(sys.executable).parent}", "READY=ready"]
        case ["PEERS_PYTHON", *others]:
            return [os.environ["PEERS_PYTHON"], *others]
        case ["python", "-m", module, *others]:
            return [sys.executable, "-m", module, *others, *SHORTER.get(module, [])]
    return [sys.executable, *words[1:]]


def run(words: list[str], root: Path) -> str:
    """Runs a command in the copy, and gives its output."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command(words, root), cwd=root, env=environment, **pipes, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_one_line_of_the_existing_files_changes(tmp_path):
    shutil.copytree(ROOT / "zoo", tmp_path / "zoo")
    for name in GENERATED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changed = apply(tmp_path)
    assert changed.pop("zoo/registry.py") == (1, 0)
    assert changed.keys() == GENERATED
    for name in GENERATED:
        json.loads((tmp_path / name).read_text())


def test_the_quick_checks_pass(copy):
    quick = [words for words in checks() if set(words) & set(QUICK)]
    assert len(quick) == len(QUICK)
    for words in quick:
        run(words, copy)
    assert "\n| `convmixer_nano` |" in (copy / "docs" / "models.md").read_text()


@pytest.mark.slow
def test_all_checks_pass(copy):
    """Without an environment that has PyTorch, the golden and its test are left out."""
    has_peers = "PEERS_PYTHON" in os.environ
    for words in checks():
        if not has_peers:
            words = [word.replace("-k=convmixer", f"-k={WITHOUT_GOLDEN}") for word in words]
        if words[0] != "PEERS_PYTHON" or has_peers:
            run(words, copy)


CALLS = """
import jax, numpy as np, zoo
from zoo.registry import BACKBONES, family_named
from zoo.weights.tree import abstract_leaves
model, family = zoo.create("convmixer_nano"), family_named("convmixer_nano")
variables = model.init(jax.random.key(0), *family.inputs(model, (32, 32), 1, jax.random.key(1)))
found = zoo.predict(model, variables, np.zeros((48, 64, 3), np.uint8))
leaves = abstract_leaves(model, family.example(model))
count = sum(leaf.size for name, leaf in leaves.items() if name.startswith("params/"))
print(found.classes.shape, "convmixer_nano" in BACKBONES, count)
"""


def test_predict_and_backbones_know_it(copy):
    counts = json.loads((copy / "tests" / "golden" / "parameter_counts.json").read_text())
    printed = run(["python", "-c", CALLS], copy).splitlines()
    assert printed[-1] == f"(1, 5) True {counts['convmixer_nano']}"
