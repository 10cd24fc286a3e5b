"""A user's own file in the current folder that has the name of a package."""

import os
import subprocess
import sys

import pytest

from tests.pages import ROOT


def run(folder, *arguments):
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("zoo.py", "train"),
        ("eval.py", "train"),
        ("eval.py", "train.doctor"),
        ("zoo.py", "train.speed"),
        ("zoo.py", "eval.detection"),
    ],
)
def test_a_command_says_what_hides_a_package(file, module, tmp_path):
    (tmp_path / file).write_text("")
    result = run(tmp_path, "-m", module)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path / file} hides the package {file[:-3]}")
    assert result.stderr.count("\n") == 1 and "python -P -m" in result.stderr


def test_an_import_says_so_too(tmp_path):
    (tmp_path / "eval.py").write_text("")
    result = run(tmp_path, "-c", "import train")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: ")


def test_the_current_folder_can_be_left_out(tmp_path):
    (tmp_path / "train.py").write_text("print('mine')")
    assert run(tmp_path, "-m", "train").stdout == "mine\n"
    assert "vit_digits" in run(tmp_path, "-P", "-m", "train").stdout
