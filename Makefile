# Maquette. `make help` says what there is to do; every target sets up what it needs, and a second call starts in seconds.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
JS := tests/js
TYPED := engine projections server clients/python tests $(if $(wildcard benchmarks/*.py),benchmarks)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help serve test test-quick check format spec fuzz crash bench bench-quick lock wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  Pass arguments with ARGS, e.g. make serve ARGS="--port 9000", make test ARGS="-k tree".'

serve: .venv/.stamp ## start the development server (Python only)
	@exec $(BIN)/maquette serve --dev $(ARGS)

test: .venv/.stamp $(JS)/node_modules/.stamp ## every test, the slow ones included
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-quick: .venv/.stamp $(JS)/node_modules/.stamp ## the tests that take seconds
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

check: .venv/.stamp ## lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

format: .venv/.stamp ## let ruff write the format and its safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

spec: .venv/.stamp ## write into docs/spec.md which tests hold which rule
	$(BIN)/python -m tests.support.rules

fuzz: .venv/.stamp ## hostile input by chance: ARGS="--seconds 600" or ARGS="--count 200000 updates"
	$(BIN)/python -m tests.fuzz $(ARGS)

crash: .venv/.stamp ## kills, power cuts and other troubles under load: ARGS="--kills 200 --cuts 1000 --errors 30"
	$(BIN)/python -m tests.crash.run $(ARGS)

bench: .venv/.stamp $(JS)/node_modules/.stamp ## Maquette beside its peers: docs/benchmarks.md
	@exec $(BIN)/python -m benchmarks.peers --write $(ARGS)

bench-quick: .venv/.stamp ## Maquette beside Hocuspocus, in 3 minutes
	@exec $(BIN)/python -m benchmarks.peers --quick $(ARGS)

wheel: .venv/.stamp ## dist/: the sdist, and the wheel built from it
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -d dist
	$(BIN)/pip wheel --quiet --no-deps --no-index --no-build-isolation -w dist dist/maquette-*.tar.gz
	@ls dist

# The same pins in both files: what the product needs, and that with the tools. UPGRADE=--upgrade takes newer versions.
UV_COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header
lock: .venv/.stamp ## compile the requirements files from pyproject.toml
	$(UV_COMPILE) $(UPGRADE) --group dev -o requirements.txt
	$(UV_COMPILE) --constraint requirements.txt -o requirements-runtime.txt

clean: ## remove what was set up and built, but no data
	rm -rf .venv $(JS)/node_modules benchmarks/peers/node_modules dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# --- set-up: each stamp is newer than what it was made from --------------------------------------------------------

OLD_PYTHON := 'expected Python 3.11 or newer, got %d.%d from $(PYTHON): name another one with make PYTHON=python3.12'

.venv/.made:
	@command -v $(PYTHON) >/dev/null || { echo 'expected Python 3.11 or newer, found no $(PYTHON) on the PATH' >&2; exit 1; }
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and $(OLD_PYTHON) % v or 0)"
	@$(PYTHON) -m venv .venv || { echo 'expected python3 -m venv to work (on Debian: apt install python3-venv)' >&2; exit 1; }
	@touch $@

.venv/.stamp: .venv/.made requirements.txt pyproject.toml
	$(BIN)/pip install -qq --require-hashes -r requirements.txt
	$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

$(JS)/node_modules/.stamp: $(JS)/package.json $(JS)/package-lock.json $(JS)/.npmrc
	@command -v npm >/dev/null || { echo 'expected Node 20 or newer with npm on the PATH, found none: the tests run real Yjs' >&2; exit 1; }
	@node -e 'const v = process.versions.node; if (parseInt(v) < 20) { console.error(`expected Node 20 or newer, got $${v}`); process.exit(1) }'
	cd $(JS) && npm ci --silent
	@touch $@
