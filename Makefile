# "make" lists the targets. They are the same for everybody: the CI, the commit hooks and the
# workflow call these and nothing else.

PYTHON ?= python3
VENV ?= .venv
# One process per core, one thread per process (tests/conftest.py sets the threads).
JOBS ?= 2

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Written after an install, so that the next run installs only when what to install has changed.
USER_STAMP := $(VENV)/.installed-demo
DEV_STAMP := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-slow test-gpu bench lint format types clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name what; do printf '  %-10s %s\n' "$$name" "$$what"; done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("skcompress needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)

$(USER_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[plot,progress]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: $(USER_STAMP) ## sweep the settings on the digits and print size against accuracy
	$(BIN)/python examples/01_sweep_digits.py

test: lint types test-fast ## all that a commit has to pass: lint, types, tests, doctests, docs

test-fast: $(DEV_STAMP) ## the tests alone, without the slow ones
	$(BIN)/python -m pytest -n $(JOBS)

test-slow: $(DEV_STAMP) ## the slow tests, the examples among them
	$(BIN)/python -m pytest -n $(JOBS) -m slow

# One process: they would share the GPU's memory.
test-gpu: $(DEV_STAMP) ## the tests on a GPU; skipped where torch sees none
	$(BIN)/python -m pytest -m gpu tests/gpu

bench: $(USER_STAMP) ## run every benchmark on a small scale; docs/benchmarks.md has the figures
	for file in examples/benchmarks/[a-z]*.py; do $(BIN)/python $$file --quick || exit 1; done

lint: $(DEV_STAMP) ## rules and format of the code, that in the documents too; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV_STAMP) ## put the code in format and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(DEV_STAMP) ## type check of the package
	$(BIN)/mypy

clean: ## remove caches and build results, keep the environment
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find skcompress tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
