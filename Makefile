# `make up` and `make test` need nothing but Python 3.11+ and make: each sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
FUZZ_STAMP := $(VENV)/.installed-fuzz
ARGS ?=

# The README's test command.
TEST := $(BIN)/python -m pytest -n auto

.DEFAULT_GOAL := help
.PHONY: help up test check format bench faults mutations lock clean

help: ## Show these lines
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null \
		|| grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST)

up: $(RUN_STAMP) ## Run everything here, with a demo workspace and live simulated traffic (ARGS="--port 9000")
	@$(BIN)/ingest up --demo $(ARGS)

test: $(DEV_STAMP) ## Run the whole test suite (ARGS="-k embedded")
	$(TEST) $(ARGS)

check: $(DEV_STAMP) ## The gate: format, lint, types, import rules, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TEST)

format: $(DEV_STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP) ## Measure messages/s against the comparators in benchmarks/
	$(BIN)/python -m benchmarks $(ARGS)

# With the long runs of tests that live elsewhere.
FAULT_TESTS := tests/faults tests/integration/test_model.py tests/integration/test_waiting_runs.py
# The figures are kept there, and the table beside it.
FAULTS_OUT ?= docs/benchmarks/faults

faults: $(DEV_STAMP) $(FUZZ_STAMP) ## Kill, stop and cut off everything under load, count what was lost, print the table
	FAULTS_OUT=$(FAULTS_OUT) $(BIN)/python -m pytest $(FAULT_TESTS) -m "faults or not faults" -p no:randomly -s $(ARGS); \
		status=$$?; FAULTS_OUT=$(FAULTS_OUT) $(BIN)/python -m tests.faults.report; exit $$status

mutations: $(DEV_STAMP) ## Plant bugs in copies of the tree, and see that a test finds each (ARGS="no_fence")
	$(BIN)/python -m tests.mutations $(ARGS)

lock: $(BIN)/python ## Resolve the dependencies anew and write requirements/*.txt with hashes
	@test -x $(VENV)/lock/bin/uv || ($(BIN)/python -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv)
	$(call compile,dev,--extra embedded --extra flower --extra dev pyproject.toml)
	$(call compile,embedded,--extra embedded pyproject.toml -c requirements/dev.txt)
	$(call compile,run,pyproject.toml -c requirements/dev.txt)
	$(call compile,fuzz,requirements/fuzz.in -c requirements/dev.txt)
	$(call compile,build,requirements/build.in -c requirements/dev.txt)

define compile
$(VENV)/lock/bin/uv pip compile $(2) --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --quiet --output-file requirements/$(1).txt $(ARGS)
endef

clean: ## Remove the virtual environment and the tools' caches, not the data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# Two sets, so that running needs no test tools; the larger one contains the smaller.
$(RUN_STAMP): requirements/embedded.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes --only-binary :all: -r requirements/embedded.txt -r requirements/build.txt
	$(INSTALL) --no-build-isolation --no-deps --no-index --editable .
	@touch $@

$(DEV_STAMP): requirements/dev.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes --only-binary :all: -r requirements/dev.txt -r requirements/build.txt
	$(INSTALL) --no-build-isolation --no-deps --no-index --editable .
	@touch $@ $(RUN_STAMP)

# Where there is no wheel of it, the tests that need it say that they are skipped.
$(FUZZ_STAMP): requirements/fuzz.txt | $(BIN)/python
	-$(INSTALL) --require-hashes --only-binary :all: -r requirements/fuzz.txt
	@touch $@
