# A fresh machine needs Python 3.11 or later and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs/demo
# The versions to install: constraints/floors.txt for the oldest, nothing for the newest.
CONSTRAINTS ?= constraints/pinned.txt
WORKERS ?= 2
TESTS ?= tests

.PHONY: install demo test test-fast lint docs notebook notebook-outputs clean

$(BIN)/.installed: setup.cfg $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(addprefix -c ,$(CONSTRAINTS)) -e '.[dev]'
	touch $@

install: $(BIN)/.installed  ## the package with all extras and the tools for its tests

demo: $(BIN)/.installed  ## ordinal RoPE against SIREN-RoPE on the built-in feed, with pictures
	$(BIN)/python experiments/ablate.py --config=configs/ablation/demo.py --workdir=$(RUNS)

test: $(BIN)/.installed  ## all tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(TESTS)

test-fast: $(BIN)/.installed  ## the tests that take a few seconds at most
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m 'not slow' $(TESTS)

lint: $(BIN)/.installed  ## style, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(BIN)/.docs: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(addprefix -c ,$(CONSTRAINTS)) -e '.[docs]'
	touch $@

docs: $(BIN)/.docs  ## the documentation site, in build/site; a warning is an error
	$(BIN)/mkdocs build --quiet

notebook: $(BIN)/.installed  ## executes the notebooks, the one on check-ins with made-up ones
	env -u SIREN_ROPE_DATA $(BIN)/jupyter-execute --timeout=900 notebooks/*.ipynb

notebook-outputs: $(BIN)/.installed  ## executes the notebooks and stores their outputs in them
	env -u SIREN_ROPE_DATA $(BIN)/python notebooks/store_outputs.py notebooks/*.ipynb

clean:
	rm -rf $(VENV) runs build
