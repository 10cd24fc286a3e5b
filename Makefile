# make demo | test | test-all | pod-test | notebooks | lint        PYTHON=python3.13 chooses the interpreter
PYTHON ?= python3
# One environment for each interpreter that is asked for; .venv for the default one.
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
READY := $(VENV)/ready
NOTEBOOKS_READY := $(VENV)/ready-notebooks
NOTEBOOKS ?= notebooks
BIN := $(VENV)/bin

.PHONY: demo test test-all pod-test notebooks lint

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,hub]'
	touch $@

# Jupyter is only installed where a notebook is to be executed.
$(NOTEBOOKS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[notebooks]'
	touch $@

# XLA's temporary arrays in large pages: on Linux a third off a training step on the CPU.
demo: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
demo: $(READY)
	$(BIN)/python -m train mae_digits --workdir=runs/demo/pretrained
	$(BIN)/python -m train mae_finetune_digits --workdir=runs/demo/tuned --init=runs/demo/pretrained
	$(BIN)/python -m eval.classification --workdir=runs/demo/tuned --checkpoint=last
	$(BIN)/python -m eval.reconstruction --workdir=runs/demo/pretrained --checkpoint=last

# Some of them: make test TESTS="tests/zoo/ops tests/eval"
# Compilation is most of what these small models take; `make test-all` has the optimisations of a real run.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= true
test: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto $(TESTS)

test-all: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto -m 'slow or not slow'

pod-test: $(READY)
	$(BIN)/python -m pytest -m 'slow or not slow' tests/train/test_hosts.py

# Some of them: make notebooks NOTEBOOKS="notebooks/01_quickstart.ipynb notebooks/04_mae.ipynb"
# What a notebook's own process warns of is in its output; the errors on warnings are not for Jupyter.
notebooks: $(NOTEBOOKS_READY)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 --timeout=3600 -W default $(NOTEBOOKS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
