# `make demo` shows a host boot; `make test` runs every check; `make bench` measures; `make attacks RUNS=N` runs the
# races for a host's secrets N times each; `make fuzz-api` sends the API what its description leads to; `make pictures`
# takes those of the pages anew. `make flaky RUNS=N` runs the tests N times in random order on a busy machine, `make
# long` runs the tests that take minutes each, `make power-cuts` boots hosts whose power was cut, `make boot-matrix` boots every
# way to boot that there is, `make lowest` runs the unit tests with the lowest versions of libraries that are declared,
# `make other-release` tests, an image and its boot on the other release of Debian; `make wheel` builds what is installed,
# `make deb` a Debian package of it, and `make packages` tries both. Each installs what it needs.

PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
JOBS ?= 2
# Integration tests and boots wait for a third of their time, and a machine has 1.8 GB with all that belongs to it.
WAITING_JOBS ?= $(shell awk '/^MemAvailable/ { n = int($$2 / 1800000); print (n < 1 ? 1 : n > 4 ? 4 : n) }' /proc/meminfo)
RUNS ?= 1

# Those that a comma joins run beside each other.
STAGES := lint,types,programs unit lab

.PHONY: demo test bench attacks fuzz-api pictures long boot-matrix power-cuts flaky lowest other-release wheel deb packages lint types programs unit lab integration boot lock clean

demo: $(VENV)/.ready
	tools/need boot
	$(BIN)/provision demo

# Stages go on after one that failed; the last lines say what failed in all.
test: $(VENV)/.ready
	@MAKE="$(MAKE)" tools/stages $(STAGES)

# What all stages need, so that none waits for it.
programs: $(VENV)/.ready
	tools/need boot bench integration browser usecases

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

unit: $(VENV)/.ready
	tools/need boot
	$(BIN)/pytest -m "not integration and not boot and not packages" -n $(JOBS) --timeout 120

# Files and single boots go to workers in the order that tests/conftest.py gives them.
LAB := -n $(WAITING_JOBS) --dist loadgroup --no-loadscope-reorder --timeout 600

# Both beside each other: one waits while the other computes.
lab: $(VENV)/.ready
	tools/need boot bench integration browser usecases
	$(BIN)/pytest -m "(integration or boot) and not long" $(LAB)

integration: $(VENV)/.ready
	tools/need boot bench integration browser
	$(BIN)/pytest -m integration $(LAB)

boot: $(VENV)/.ready
	tools/need boot usecases browser
	$(BIN)/pytest -m "boot and not long" $(LAB)

# Minutes of a processor each: all that the host image goes through, and benchmarks on small inputs.
long: $(VENV)/.ready
	tools/need boot bench integration usecases
	$(BIN)/pytest -m long -n $(JOBS) --dist load --maxschedchunk 1 --timeout 3600

# Every cell of the boot matrix that has not passed yet by the file of results, without which all are booted anew. The
# documentation gets its tables also when some fail, or when it is interrupted and started again.
MATRIX := build/boot-matrix.jsonl
boot-matrix: $(VENV)/.ready
	tools/need boot
	BOOT_MATRIX=$(MATRIX) $(BIN)/pytest tests/boot/test_matrix.py -n $(JOBS) --dist load --maxschedchunk 1 --timeout 3600; \
	    status=$$?; $(BIN)/python -m tests.helpers.boot_results $(MATRIX); exit $$status

bench: $(VENV)/.ready
	tools/need boot bench
	$(BIN)/python -m bench

attacks: $(VENV)/.ready
	tools/need boot
	$(BIN)/python -m tests.integration.attacks $(RUNS) --jobs $(WAITING_JOBS)

# FUZZ_EXAMPLES requests of each operation from each sender, others each time.
FUZZ_EXAMPLES ?= 400
fuzz-api: $(VENV)/.ready
	tools/need base integration
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest tests/integration/attacks/test_fuzz.py --timeout 7200

# All that `make test` runs; beside busy loops each test may take longer.
flaky: $(VENV)/.ready
	tools/need boot bench integration browser usecases
	tools/flaky $(RUNS) $(BIN)/pytest -m "not packages and not long" $(LAB) --timeout 3600

# How the pages look, for the documentation; one of them while a machine boots.
pictures: $(VENV)/.ready
	tools/need boot browser
	PICTURES=docs/pictures $(BIN)/pytest tests/integration/web tests/boot/test_followed.py --timeout 3600

# The lowest versions that pyproject.toml declares have to work, too. Nothing else uses this environment.
lowest: $(VENV)/.ready
	tools/need boot
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[test]'
	$(LOWEST)/bin/python -m pytest -m "not integration and not boot and not packages" --ignore tests/project -n $(JOBS) --timeout 120

# The last commit, on Debian 13 when this is 12, and the reverse. The demonstration builds an image and boots it.
other-release:
	tools/need bench
	tools/other-release make test STAGES="unit integration demo"

# POINTS boots of hosts whose power was cut. An end is gone on from; what is in build/power-cuts is not done again.
POINTS ?= 200
power-cuts: $(VENV)/.ready
	tools/need boot
	$(BIN)/python -m tests.power_cuts $(POINTS) --jobs $(JOBS)

# Beside the wheel is what it is installed with: its libraries, each by version and hash.
wheel: $(VENV)/.ready
	rm -rf dist
	$(BIN)/hatchling build -t wheel
	cp requirements-server.lock dist/

deb: wheel
	tools/need packages
	tools/deb dist/provision-*.whl dist

# Installs the Debian package and the container image in roots of their own, and serves from them.
packages: $(VENV)/.ready
	tools/need boot integration packages
	$(BIN)/pytest -m packages -n $(JOBS) --dist loadfile --timeout 3600

$(VENV)/.ready: requirements.lock pyproject.toml
	tools/need base
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Pins every Python package by version and hash, and names no index. The server's own are a part of all.
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --universal --python-version 3.11
lock: $(VENV)/.ready
	$(COMPILE) --upgrade --extra dev -o requirements.lock pyproject.toml
	$(COMPILE) --upgrade --constraint requirements.lock -o requirements-server.lock pyproject.toml

clean:
	rm -rf $(VENV) $(LOWEST) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
