# make demo | test | test-all | pod-test | notebooks | lint        PYTHON=python3.13 chooses the interpreter
PYTHON ?= python3
# Each interpreter has its own environment; the default interpreter has .venv.
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
READY := $(VENV)/ready
NOTEBOOKS_READY := $(VENV)/ready-notebooks
NOTEBOOKS ?= notebooks
BIN := $(VENV)/bin

.PHONY: demo test test-all pod-test notebooks lint

$(READY): pyproject.toml hatch_build.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,hub]'
	touch $@

# Jupyter is installed only when notebooks are run.
$(NOTEBOOKS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[notebooks]'
	touch $@

# Large memory pages for XLA's temporary arrays: on Linux, a training step on the CPU takes a third
# less time.
demo: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
demo: $(READY)
	$(BIN)/python -m train mae_digits --workdir=runs/demo/pretrained
	$(BIN)/python -m train mae_finetune_digits --workdir=runs/demo/tuned --init=runs/demo/pretrained
	$(BIN)/python -m eval.classification --workdir=runs/demo/tuned --checkpoint=last
	$(BIN)/python -m eval.reconstruction --workdir=runs/demo/pretrained --checkpoint=last

# To run only some tests: make test TESTS="tests/zoo/ops tests/eval"
# These small models spend most of their time in compilation, so most optimisations are off here;
# `make test-all` compiles with all optimisations, as a real run does.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= true
test: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto $(TESTS)

test-all: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto -m 'slow or not slow'

pod-test: $(READY)
	$(BIN)/python -m pytest -m 'slow or not slow' tests/train/test_hosts.py

# To run only some notebooks: make notebooks NOTEBOOKS="notebooks/01_quickstart.ipynb notebooks/04_mae.ipynb"
# `-W default`: Jupyter itself gives warnings, which must not be errors. Warnings of the code in a
# notebook are in the output of its cells.
notebooks: $(NOTEBOOKS_READY)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 --timeout=3600 -W default $(NOTEBOOKS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
