# make demo | test | test-all | pod-test | lint        PYTHON=python3.13 chooses the interpreter
PYTHON ?= python3
# One environment for each interpreter that is asked for; .venv for the default one.
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
READY := $(VENV)/ready
BIN := $(VENV)/bin

.PHONY: demo test test-all pod-test lint

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,hub]'
	touch $@

demo: $(READY)
	$(BIN)/python -m train mae_digits --workdir=runs/demo/pretrained
	$(BIN)/python -m train mae_finetune_digits --workdir=runs/demo/tuned --init=runs/demo/pretrained
	$(BIN)/python -m eval.classification --workdir=runs/demo/tuned --checkpoint=last
	$(BIN)/python -m eval.reconstruction --workdir=runs/demo/pretrained --checkpoint=last

# Some of them: make test TESTS="tests/zoo/ops tests/eval"
test: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto $(TESTS)

test-all: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto -m 'slow or not slow'

pod-test: $(READY)
	$(BIN)/python -m pytest -m 'slow or not slow' tests/train/test_hosts.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
