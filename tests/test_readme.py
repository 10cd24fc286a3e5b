import json
import re
from pathlib import Path

import zoo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COUNTS = json.loads((ROOT / "tests" / "golden" / "parameter_counts.json").read_text())


def test_the_example_runs(capsys):
    example = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    found: dict = {}
    exec(compile(example, "README.md", "exec"), found)
    assert found["logits"].shape == (1, 10)
    assert found["tokens"].shape == (1, 281, 192)
    assert found["features"].shape == (1, 14, 20, 192)
    assert found["attention"].shape == (1, 3, 281, 281)
    assert found["how"].size == (224, 224)
    assert "['vit_tiny_patch16_224', 'vit_tiny_patch16_384']" in capsys.readouterr().out


def test_the_model_table_has_every_model_with_its_parameters():
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|.*?\| ([\d,]+) \|", README, flags=re.MULTILINE)
    table = {name: int(count.replace(",", "")) for name, count in rows}
    assert table == {name: COUNTS[name] for name in zoo.list_models()}


def test_nothing_is_left_to_be_filled_in_and_files_exist():
    assert not re.findall(r"\b[A-Z]+_[A-Z_]+\b(?<!TFDS_DIR)|PARITY", README)
    for path in re.findall(r"`((?:tests|zoo|train|eval)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
