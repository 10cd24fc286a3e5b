"""`import zoo` imports little: the modules that a call needs are imported by the call."""

import subprocess
import sys

import pytest

from tests.pages import ROOT

# The import of each of them takes from a tenth of a second to a few seconds.
HEAVY = (
    *("jax", "flax", "optax", "orbax", "numpy", "PIL", "cv2", "matplotlib", "sklearn"),
    *("grain", "tensorflow_datasets", "tensorstore", "etils", "msgspec", "safetensors"),
)


def modules_after(code):
    """The top-level modules that a new Python has imported after running the code."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_zoo_imports_nothing_heavy():
    found = modules_after("import zoo")
    assert "zoo" in found
    assert not found.intersection(HEAVY)


@pytest.mark.parametrize("code", ["zoo.create('vit_tiny_patch16_224')", "zoo.list_models('vit*')"])
def test_what_data_and_checkpoints_need_waits_for_them(code):
    heavy = {"tensorflow_datasets", "grain", "orbax", "cv2", "matplotlib", "sklearn", "PIL"}
    found = modules_after(f"import zoo; {code}")
    assert "flax" in found
    assert not found & heavy
