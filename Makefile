# `make demo` shows a host boot; `make test` runs every check; `make bench` measures; `make attacks RUNS=N` runs the
# races for a host's secrets N times each. Each installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Integration tests wait for a third of their time.
WAITING_JOBS ?= 3
RUNS ?= 1

.PHONY: demo test bench attacks lint types unit integration boot lock clean

demo: $(VENV)/.ready
	tools/need boot
	$(BIN)/provision demo

test: lint types unit integration boot

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

unit: $(VENV)/.ready
	tools/need boot
	$(BIN)/pytest -m "not integration and not boot" -n $(JOBS) --timeout 120

integration: $(VENV)/.ready
	tools/need boot bench integration
	$(BIN)/pytest -m integration -n $(WAITING_JOBS) --dist loadfile --timeout 300

boot: $(VENV)/.ready
	tools/need boot usecases
	$(BIN)/pytest -m boot -n $(JOBS) --dist load --timeout 900

bench: $(VENV)/.ready
	tools/need boot bench
	$(BIN)/python -m bench

attacks: $(VENV)/.ready
	tools/need boot
	$(BIN)/python -m tests.integration.attacks $(RUNS) --jobs $(WAITING_JOBS)

$(VENV)/.ready: requirements.lock pyproject.toml
	tools/need base
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Pins every Python package by version and hash, and names no index.
lock: $(VENV)/.ready
	$(BIN)/uv pip compile --quiet --upgrade --extra dev --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
