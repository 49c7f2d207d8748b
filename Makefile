# Everything a newcomer types. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := app schema resolvers engine persistence worker web tests

.DEFAULT_GOAL := help
.PHONY: help setup up test chaos check format schema docs bench bench-quick lock

help: ## What there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.installed ## Makes .venv, installs the pinned packages, builds the page
	@$(BIN)/python -m web.build

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Treadle needs Python 3.11 or newer; name one with make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: setup ## Starts everything, on http://127.0.0.1:8000/graphql
	@exec $(BIN)/treadle up

test: setup ## Runs the whole suite on embedded servers of its own, then bench-quick
	@$(BIN)/python -m pytest -n 2
	@$(BIN)/python -m bench --quick

chaos: setup ## Kills a Treadle of its own for MINUTES=10 (SEED=n repeats a run) and prints what was promised and seen
	@$(BIN)/treadle chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

check: setup ## Style, types, import law, dependencies, schema snapshot
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry . --no-ansi
	@$(BIN)/treadle schema | diff -u schema/schema.graphql - || (echo "the schema has changed: look at it, then run make schema"; exit 1)

format: setup ## Formats the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

schema: setup ## Writes schema/schema.graphql
	@$(BIN)/treadle schema > schema/schema.graphql.new && mv schema/schema.graphql.new schema/schema.graphql

docs: setup ## Writes docs/nodes.md from the node types
	@$(BIN)/python -m app.cli.node_docs > docs/nodes.md.new && mv docs/nodes.md.new docs/nodes.md

bench: setup ## Measures everything against bare LangGraph, and prints one table
	@$(BIN)/python -m bench

bench-quick: setup ## The ratios alone, in two minutes; fails where one is far from its target
	@$(BIN)/python -m bench --quick

lock: ## Pins the newest versions that fit (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -o requirements.lock
