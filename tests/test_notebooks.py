import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
COLAB = "https://colab.research.google.com"
GITHUB = "/github/jax-vision-zoo/jax-vision-zoo/blob/main/notebooks/"


def source(cell):
    return "".join(cell["source"])


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return json.loads(path.read_text())


@pytest.fixture
def code(notebook):
    return [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_it_is_stripped_and_of_the_format(path, notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            stripped = cell["outputs"] == [] and cell["execution_count"] is None
            assert stripped, f"has outputs; run: nbstripout {path}"


def test_it_begins_with_a_title_and_its_own_badge(path, notebook):
    first, second = notebook["cells"][:2]
    assert first["cell_type"] == "markdown" and second["cell_type"] == "code"
    assert source(first).startswith("# ")
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}{GITHUB}{path.name})"
    assert badge in source(first)


def test_it_installs_in_colab_alone_and_honours_its_switch(code):
    first = code[0]
    assert 'if "google.colab" in sys.modules:' in first
    assert re.search(r"^FULL = False  # ", first, flags=re.MULTILINE)
    assert len(re.findall(r"\bFULL\b", "\n".join(code))) > 1


def test_its_code_parses_and_its_commands_fail_loudly(code):
    setup, *others = code
    for cell in (setup, *others):
        if not cell.startswith("%%"):
            ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", cell, flags=re.MULTILINE))
    for cell in others:  # "!" ignores failures and shows progress bars, %%bash does not
        assert not re.search(r"^\s*!", cell, flags=re.MULTILINE)


def test_the_files_that_it_links_to_are_there(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", source(cell)):
                assert (FOLDER / target).exists(), target
