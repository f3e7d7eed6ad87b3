# A fresh machine needs Python 3.11 or later and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs/demo

.PHONY: demo test lint notebook clean

$(BIN)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(BIN)/.installed  ## ordinal RoPE against SIREN-RoPE on the built-in feed, with pictures
	$(BIN)/python experiments/ablate.py --config=configs/ablation/demo.py --workdir=$(RUNS)

test: $(BIN)/.installed  ## all tests; pass `-m 'not slow'` to pytest for the fast ones
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(BIN)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

CHECKINS := $(wildcard $(SIREN_ROPE_DATA)/foursquare_nyc/NYC.npy)

notebook: $(BIN)/.installed  ## executes the notebooks; the one on check-ins where it finds them
	$(BIN)/jupyter-execute --timeout=900 notebooks/quickstart.ipynb
ifdef CHECKINS
	SIREN_ROPE_DATA=$(abspath $(SIREN_ROPE_DATA)) \
		$(BIN)/jupyter-execute --timeout=900 notebooks/checkins.ipynb
else
	@echo 'skipped notebooks/checkins.ipynb: no foursquare_nyc/NYC.npy below SIREN_ROPE_DATA'
endif

clean:
	rm -rf $(VENV) runs
