# The entry points of the project. Each target sets up what it needs: a virtual environment in
# .venv and node modules in node_modules, both pinned. A machine needs Python 3.11 and make.
#
#   make demo              train a digit classifier on a server that the demo starts itself
#   make test              run the tests; pass options on with ARGS="-k name"
#   make check             format, lint, types, contract, generated files
#   make proto             regenerate the stubs from protos/
#   make fuzz              throw many more generated requests at a server; EXAMPLES=number
#   make bench             compare with local torch, bare gRPC and Ray; options by ARGS
#   make bench-docs        the same with growth curves, written into docs/
#   make bench-observing   measure what metrics, traces and the audit log cost
#   make conformance       run torch's own test tables and write docs/conformance.md
#
#   make setup             only the virtual environment
#   make format            reformat, and fix what ruff can fix
#   make catalog           regenerate the tables of operations and layers from torch
#   make settings          renew the table of settings in docs/operations.md
#   make test-kill         kill workers and servers at many random points of runs
#   make test-container    build the container image and test it; fails without a Docker engine
#   make proto-baseline    take the contract as it is for the one that must not be broken
#   make constraints       renew the pins in constraints.txt; TORCH_VERSION=x.y.z changes torch
#   make hooks             run the checks at every git commit
#   make clean             remove everything that make made

PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell command -v $(name) 2>/dev/null)))
ARGS ?=
EXAMPLES ?= 2000
TORCH_VERSION ?= $(patsubst torch==%,%,$(filter torch==%,$(file <constraints.txt)))

VENV := .venv
BIN := $(VENV)/bin
VENV_STAMP := $(VENV)/.installed
NODE_STAMP := node_modules/.installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
EXTRAS := server,otel,s3,plot,tensorboard,mlflow,bench,demo,test,dev
BUF := node_modules/.bin/buf
BASELINE := protos/baseline.yaml

# node and npm come with the virtual environment; they trust what the machine trusts.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export NODE_USE_SYSTEM_CA ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help:
	@sed -n 's/^#   make /make /p' Makefile

$(VENV_STAMP): pyproject.toml constraints.txt
	@echo "Installing gradwire and its tools into $(VENV) ..."
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "No Python 3.11 or later; name one: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt --upgrade pip
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt --build-constraint constraints.txt \
		--editable '.[$(EXTRAS)]'
	@touch $@

$(NODE_STAMP): package.json package-lock.json | $(VENV_STAMP)
	@echo "Installing node modules ..."
	@npm ci --silent --no-audit --no-fund
	@touch $@

.PHONY: setup
setup: $(VENV_STAMP) $(NODE_STAMP)
	@:

.PHONY: demo
demo: $(VENV_STAMP)
	@$(BIN)/python examples/digits.py $(ARGS)

.PHONY: test
test: $(VENV_STAMP) $(NODE_STAMP)
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: test-container
test-container: $(VENV_STAMP)
	@GRADWIRE_REQUIRE_DOCKER=1 $(BIN)/python -m pytest tests/container $(ARGS)

.PHONY: fuzz
fuzz: $(VENV_STAMP)
	@TESTS_SAFETY_EXAMPLES=$(EXAMPLES) GRADWIRE_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest \
		tests/safety/test_fuzz.py tests/integration/test_any_request.py --timeout=0 $(ARGS)

.PHONY: test-kill
test-kill: $(VENV_STAMP)
	@GRADWIRE_KILLS=20 $(BIN)/python -m pytest tests/integration/test_recovery.py --timeout 3600 $(ARGS)

.PHONY: bench
bench: $(VENV_STAMP)
	@$(BIN)/gradwire bench --json outputs/benchmarks.json --plot outputs/benchmarks.png $(ARGS)

.PHONY: bench-docs
bench-docs: $(VENV_STAMP)
	@$(BIN)/gradwire bench --json docs/benchmarks.json --plot docs/benchmark-lines.png --curves docs \
		--markdown docs/performance.md $(ARGS)

.PHONY: bench-observing
bench-observing: $(VENV_STAMP)
	@$(BIN)/python -m gradwire_benchmarks.observing $(ARGS)

.PHONY: conformance
conformance: $(VENV_STAMP)
	@$(BIN)/python -m tests.conformance $(ARGS)

.PHONY: check check-format check-lint check-types check-proto check-generated
check: check-format check-lint check-types check-proto check-generated

check-format: $(VENV_STAMP)
	@$(BIN)/ruff format --check --quiet || { echo "Run 'make format'."; exit 1; }

check-lint: $(VENV_STAMP)
	@$(BIN)/ruff check --quiet

check-types: $(VENV_STAMP)
	@$(BIN)/mypy --no-error-summary

check-proto: $(NODE_STAMP)
	@$(BUF) lint protos
	@$(BUF) format --diff --exit-code protos
	@$(BUF) breaking protos --against $(BASELINE)

check-generated: $(VENV_STAMP)
	@$(BIN)/python scripts/generate_stubs.py --check
	@$(BIN)/python scripts/generate_catalog.py --check
	@$(BIN)/python scripts/generate_typing.py --check
	@$(BIN)/python scripts/generate_refusals.py --check
	@$(BIN)/python scripts/generate_settings.py --check

.PHONY: format
format: $(VENV_STAMP) $(NODE_STAMP)
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet
	@$(BUF) format --write protos

.PHONY: proto
proto: $(VENV_STAMP)
	@$(BIN)/python scripts/generate_stubs.py

.PHONY: catalog
catalog: $(VENV_STAMP)
	@$(BIN)/python scripts/generate_catalog.py
	@$(BIN)/python scripts/generate_typing.py
	@$(BIN)/python scripts/generate_refusals.py

.PHONY: settings
settings: $(VENV_STAMP)
	@$(BIN)/python scripts/generate_settings.py

.PHONY: proto-baseline
proto-baseline: $(NODE_STAMP)
	@$(BUF) build protos --exclude-source-info --output $(BASELINE)

.PHONY: constraints
constraints:
	@$(PYTHON) scripts/pin_constraints.py --torch '$(TORCH_VERSION)' --extras '$(EXTRAS)'

.PHONY: hooks
hooks: $(VENV_STAMP) $(NODE_STAMP)
	@$(BIN)/pre-commit install

.PHONY: clean
clean:
	@rm -rf $(VENV) node_modules build dist outputs .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
