"""The tests share one cache of compiled programs: many of them train the same small model."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import jax
import pytest

FOLDER = "JAX_COMPILATION_CACHE_DIR"  # a variable, so that processes which tests start use it, too


def pytest_configure(config: pytest.Config) -> None:
    """Makes the folder in the first process; its workers inherit the variables."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="compiled-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True))
    jax.config.update("jax_compilation_cache_dir", os.environ[FOLDER])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(autouse=True, scope="module")
def without_traces() -> Iterator[None]:
    """Frees what JAX keeps of each module's functions: gigabytes in the end, and ever slower."""
    yield
    jax.clear_caches()
