import json
import re

import pytest

import zoo
from tests.pages import PAGES, ROOT

COUNTS = json.loads((ROOT / "tests" / "golden" / "parameter_counts.json").read_text())


def test_the_model_table_has_every_model_with_its_parameters():
    text = (ROOT / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|.*?\| ([\d,]+) \|", text, flags=re.MULTILINE)
    table = {name: int(count.replace(",", "")) for name, count in rows}
    assert table == {name: COUNTS[name] for name in zoo.list_models()}


def test_the_table_of_families_counts_every_model():
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Models") : text.index("## Results")]
    counts = re.findall(r"^\| [\w -]+ \| (\d+): ", section, flags=re.MULTILINE)
    assert sum(map(int, counts)) == len(zoo.list_models())


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_nothing_is_left_to_be_filled_in_and_what_is_named_exists(page):
    text = (ROOT / page).read_text()
    # With brackets, so that a search of the repository for these words does not find this line.
    assert not re.findall(r"\b(?:TO[D]O|TB[D]|FIX[M]E|X[X]X|PARIT[Y])\b", text)
    for path in re.findall(r"`((?:tests|zoo|train|eval|docs)/[\w/.]+\.\w+)`", text):
        assert (ROOT / path).exists() or "convmixer" in path, path  # the example adds it
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith(("http", "notebooks/")):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_notebook_is_linked():
    linked = re.findall(r"\((notebooks/\w+\.ipynb)\)", (ROOT / "README.md").read_text())
    assert linked == sorted(set(linked))
    assert {f"notebooks/{path.name}" for path in ROOT.glob("notebooks/*.ipynb")} <= set(linked)


def test_one_version_everywhere():
    (version,) = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}]\n" in (ROOT / "CHANGELOG.md").read_text()
