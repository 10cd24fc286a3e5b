"""The worked example of docs/add_a_model.md: its blocks, applied to a copy, pass its checks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import INDENTED, ROOT, read_blocks, read_commands

PAGE = "docs/add_a_model.md"
COPIED = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"),
    *("pyproject.toml", "Makefile"),
)
FOLDERS = ("docs", "eval", "notebooks", "tests", "train", "zoo")


def apply(root: Path) -> list[str]:
    """Makes the new files and changes the others; returns what was changed."""
    changed = []
    for block in read_blocks(PAGE):
        first, _, text = block.text.partition("\n")
        path = root / first[4:] if first.startswith("--- ") else root / first[2:]
        if block.language == "python":
            path.write_text(text + "\n")
        elif block.language == "diff":
            for hunk in text.split("\n...\n"):
                lines = hunk.split("\n")
                old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
                new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
                whole = path.read_text()
                assert whole.count(old) == 1, f"{path}: not once in it:\n{old}"
                path.write_text(whole.replace(old, new))
        if block.language != INDENTED:
            changed.append(str(path.relative_to(root)))
    return changed


@pytest.fixture
def copy(tmp_path):
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_block_can_be_applied(copy):
    changed = apply(copy)
    assert changed[0] == "zoo/models/conv_mixer.py" and "docs/models.md" in changed
    for path in changed:
        if path.endswith(".py"):
            compile((copy / path).read_text(), path, "exec")


@pytest.mark.slow
def test_the_checks_pass(copy):
    apply(copy)
    (block,) = [block for block in read_blocks(PAGE) if block.language == INDENTED]
    needs_a_golden = "tests/zoo/models/test_conv_mixer.py"  # which PyTorch makes
    small = {"train": ["--steps=2", "--eval_every=2"]}
    for _, words in read_commands(block):
        if words[0] == "make" or needs_a_golden in words:
            continue
        command = [sys.executable, *words[1:], *small.get(words[2], [])]
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
