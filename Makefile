# Commands for development and operation. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# The commit before the first one whose subject must follow the rule of `make check`.
SUBJECTS_SINCE := 584e7591fe3eba908d634f0233080fce010cb41c

.DEFAULT_GOAL := help
.PHONY: help setup up test test-long chaos hostile studio-tests mutants fuzz check check-deploy check-docs check-subjects format schema docs docs-site clients bench bench-quick lock release image full-disk

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.installed ## Create .venv, install the locked packages, and build the page
	@$(BIN)/python -m web.build

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Treadle needs Python 3.11 or newer; select one with make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: setup ## Start everything at http://127.0.0.1:8000
	@exec $(BIN)/treadle up

test: setup ## Run all tests on embedded stores, then bench-quick
	@$(BIN)/python -m pytest -n 3 --ignore=tests/app/chaos/test_suite.py
	@$(BIN)/python -m pytest tests/app/chaos/test_suite.py # Measures recovery times, so it runs by itself.
	@$(BIN)/python -m bench --quick
	@$(BIN)/python -m tests.programs

test-long: setup ## Run the tests that try samples in their long form
	@TREADLE_LONG_TESTS=1 $(BIN)/python -m pytest -n 3 $$(grep -rl 'from tests.samples import' tests --include='test_*.py')

chaos: setup ## Kill processes of a separate Treadle for MINUTES=10 and check the guarantees (SEED=n repeats a run)
	@$(BIN)/treadle chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

hostile: setup ## Attack a separate Treadle, and print how long others waited and what was refused (ATTACKS="send_slowly" MARKDOWN=table.md)
	@$(BIN)/python -m tests.hostile.run $(ATTACKS) $(if $(MARKDOWN),--markdown $(MARKDOWN))
	@TREADLE_ALL_OPERATIONS=1 $(BIN)/python -m pytest -q tests/schema/limits/test_worst_operations.py

studio-tests: setup ## Play all scenarios of the studio in Chromium, also the long ones (SCENARIOS=building, SHOTS=folder)
	@TREADLE_STUDIO_TESTS=1 $(BIN)/python -m pytest tests/end_to_end/studio -k '$(or $(SCENARIOS),test)'

mutants: setup .venv-mutants/.installed ## Change core modules in single places and list changes that no test notices (MODULES='engine/*' SAMPLE=20 SEED=1)
	@.venv-mutants/bin/python tests/mutation/run.py --modules '$(or $(MODULES),*)' --sample $(or $(SAMPLE),0) --seed $(or $(SEED),1)

.venv-mutants/.installed: tests/mutation/requirements.lock
	@$(PYTHON) -m venv .venv-mutants
	@.venv-mutants/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/mutation/requirements.lock
	@touch $@

check: setup check-subjects check-deploy check-docs ## Check style, types, import layers, dependencies, the studio, GraphQL schema and commit subjects
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry . --no-ansi
	@$(BIN)/python -m web.check
	@$(BIN)/treadle schema | diff -u schema/schema.graphql - || (echo "the GraphQL schema has changed: check the difference, then run make schema"; exit 1)
	@$(BIN)/python -m tests.contract.check

check-subjects: setup ## Check that commit subjects read `area: Imperative summary`, at most 72 characters
# A shallow clone may lack the first commit. Then it contains only later commits, and all are checked.
	@if [ -e .git ]; then \
		$(BIN)/cz check --message-length-limit 72 --rev-range "$$(git cat-file -e '$(SUBJECTS_SINCE)^{commit}' 2>/dev/null && echo '$(SUBJECTS_SINCE)..')HEAD"; \
	else \
		echo "commit subjects are not checked: this folder is no git checkout"; \
	fi

format: setup ## Format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

schema: setup ## Write schema/schema.graphql, and schema/client_cache.json for caches of clients
	@$(BIN)/treadle schema > schema/schema.graphql.new && mv schema/schema.graphql.new schema/schema.graphql
	@$(BIN)/treadle schema --cache > schema/client_cache.json.new && mv schema/client_cache.json.new schema/client_cache.json

fuzz: setup ## Call every field of the schema with every bad value, and with operations that schemathesis generates
	@TREADLE_FUZZ_VALUES=99 $(BIN)/python -m pytest tests/schema/access/test_fuzz.py
	@TREADLE_FUZZ_OPERATIONS=$(or $(OPERATIONS),2000) $(BIN)/python -m pytest tests/app/server/operations/test_generated_operations.py

docs: setup ## Write docs/nodes.md, settings.md, commands.md, errors.md and metrics.md from the code
	@$(BIN)/python -m app.cli.node_docs > docs/nodes.md.new && mv docs/nodes.md.new docs/nodes.md
	@$(BIN)/python -m app.cli.setting_docs > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	@$(BIN)/python -m app.cli.command_docs > docs/commands.md.new && mv docs/commands.md.new docs/commands.md
	@$(BIN)/python -m docs.reference.errors > docs/errors.md.new && mv docs/errors.md.new docs/errors.md
	@$(BIN)/python -m docs.reference.metrics > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md

docs-site: setup .venv-docs/.installed ## Build the site of the documents into site/, with a search that needs no network
	@$(BIN)/python -m docs.site.build

check-docs: setup .venv-docs/.installed ## Check the links, references and spelling of the documents
	@.venv-docs/bin/codespell
	@$(BIN)/python -m docs.site.build --check

.venv-docs/.installed: docs/site/requirements.lock
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs/site/requirements.lock
	@touch $@

clients: setup ## Build the TypeScript client into clients/typescript/dist
	@$(BIN)/python -m clients.build

bench: setup ## Measure everything, compare it with bare LangGraph, and print a table
	@$(BIN)/python -m bench

bench-quick: setup ## Measure the most important ratios in two minutes; fail if one is far from its target
	@$(BIN)/python -m bench --quick

release: setup .venv-deploy/.installed ## Build sdist, wheel, SBOM and checksums into dist/, and run an example from the installed wheel
	@.venv-deploy/bin/python deploy/release/build.py

check-deploy: .venv-deploy/.installed ## Check the Dockerfile, and the Helm chart against the schemas of Kubernetes
	@.venv-deploy/bin/python deploy/check.py

.venv-deploy/.installed: deploy/requirements.lock
	@$(PYTHON) -m venv .venv-deploy
	@.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock
	@touch $@

image: setup ## Execute the Dockerfile without Docker, run an example in the result, and print its size (needs root and mmdebstrap)
	@$(BIN)/python deploy/image/execute.py

full-disk: setup ## Fill the disk under Postgres, and check that nothing accepted is lost (needs root)
	@$(BIN)/python -m tests.deploy.full_disk

lock: ## Update the files of pinned packages to the newest compatible versions (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -o requirements.lock
	uv pip compile --group mutants --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -o tests/mutation/requirements.lock
	uv pip compile --group deploy --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -o deploy/requirements.lock
	uv pip compile --group docs --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -o docs/site/requirements.lock
	uv pip compile pyproject.toml -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -o deploy/image/requirements.lock
