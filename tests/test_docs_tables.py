"""The tables of models in README and docs agree with the declarations of the families."""

import runpy
import shutil

import pytest

import zoo
from tests.pages import ROOT

SCRIPT = "docs/models.py"
READ = ("README.md", "docs/models.md", "tests/golden/parameter_counts.json")


@pytest.fixture
def copy(tmp_path):
    """A copy of the pages and the command in a new folder."""
    for name in (SCRIPT, *READ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(root, *arguments):
    return runpy.run_path(str(root / SCRIPT))["main"](list(arguments))


def test_the_pages_are_as_the_command_writes_them(capsys):
    assert run(ROOT, "--check") == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", READ[:2])
def test_a_row_that_differs_is_found_and_mended(copy, capsys, page):
    before = (copy / page).read_text()
    row = next(line for line in before.splitlines() if line.startswith("| ") and "arxiv" in line)
    (copy / page).write_text(before.replace(row, row.replace("arxiv", "axriv")))
    assert run(copy, "--check") == 1
    assert capsys.readouterr().out == f"{page} differs: run python docs/models.py\n"
    assert run(copy) == 0
    assert (copy / page).read_text() == before


def test_what_the_declarations_say_is_in_the_tables():
    text = (ROOT / "docs" / "models.md").read_text()
    paper = "[1803.08494](https://arxiv.org/abs/1803.08494)"
    assert f"\n| `resnet50_gn` | {paper} | 224 x 224 | 25,557,032 | 9e-7 |\n" in text
    small = "for tests and demos | 32 x 32 | 272,424 | tiny goldens"
    assert f"\n| `vit_nano_patch4_32` | {small} |\n" in text
    for name in zoo.list_models():
        assert text.count(f"\n| `{name}` |") == 1
