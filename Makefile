# make up | make test | make check | make bench   (see CONTRIBUTING.md; Windows: scripts/setup.py and variet itself)
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
LOCKS := requirements/bootstrap.txt requirements/engine.txt requirements/dev.txt

WEB := $(wildcard web/src/*) web/build.mjs web/package.json web/package-lock.json

.PHONY: bench-security clients web check-web contract searxng test-tools up setup setup-client setup-dev check format test test-unit test-integration test-all bench lock clean models

up: .venv/.engine-ready
	@$(BIN)/variet up

setup: .venv/.engine-ready

.venv/.engine-ready: requirements/bootstrap.txt requirements/engine.txt pyproject.toml scripts/setup.py $(WEB)
	@$(PYTHON) scripts/setup.py engine

setup-client:
	@$(PYTHON) scripts/setup.py client

setup-dev: .venv/.dev-ready

.venv/.dev-ready: $(LOCKS) pyproject.toml scripts/setup.py $(WEB)
	@$(PYTHON) scripts/setup.py dev

models: setup-dev
	@$(BIN)/variet pull --all
	@$(BIN)/variet pull --all --config tests/support/models.json

# The dashboard, from web/ into the engine's package.
web:
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --no-update-notifier --prefix web
	@npm run --silent build --prefix web

check-web: setup-dev
	@npm run --silent check --prefix web

# The contract between rooms, as others read it.
contract: setup-dev test-tools
	$(BIN)/python -m variet.agent.contract docs/contract/events.schema.json
	npm run --silent contract --prefix tests/support/node -- -o $(CURDIR)/docs/contract/events.d.ts

# What tests need of the system: a browser, a sandbox.
test-tools:
	@$(PYTHON) scripts/test_tools.py

check: setup-dev check-web
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A whole SearXNG, pinned, for the tests of the search tools.
searxng: .searxng/.ready

.searxng/.ready: requirements/searxng.txt | setup-dev
	$(BIN)/uv venv -q --clear --python $(BIN)/python .searxng
	$(BIN)/uv pip install -q --python .searxng/bin/python --require-hashes -r requirements/searxng.txt
	@touch $@

# What policy is worth without a model: AgentDojo, pinned, in an environment of its own (twenty minutes).
bench-security: .agentdojo/.ready models test-tools searxng
	PYTHONPATH=src .agentdojo/bin/python bench/dojo.py
	$(BIN)/python -m bench.attacks --fresh

.agentdojo/.ready: requirements/agentdojo.txt | setup-dev
	$(BIN)/uv venv -q --clear --python $(BIN)/python .agentdojo
	$(BIN)/uv pip install -q --python .agentdojo/bin/python --require-hashes -r requirements/agentdojo.txt
	@touch $@

# Other people's clients, pinned: a gigabyte, for tests/e2e and a bench. Not `npm ci`: it wants every optional package of every
# platform to be in the registry; `--no-save` keeps to the lock, too.
clients: bench/clients/.ready

bench/clients/.ready: bench/clients/package-lock.json bench/clients/aider.txt | setup-dev
	npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error --no-update-notifier --prefix bench/clients
	$(BIN)/uv venv -q --clear --python $(BIN)/python bench/clients/.aider
	$(BIN)/uv pip install -q --python bench/clients/.aider/bin/python --require-hashes -r bench/clients/aider.txt
	@touch $@

# Three workers on two cores, as many tests wait; what takes minutes of a real model, and other people's clients, is in
# `make test-all`.
test: setup-dev models test-tools searxng
	$(BIN)/pytest tests -m "not clients and not long" -n 3 --dist worksteal --durations 10

# Everything: what a release needs. Other people's clients are shut in: they see loopback alone.
test-all: test clients
	$(BIN)/pytest tests -m "long and not clients"
	$(BIN)/python -m tests.support.loopback $(BIN)/pytest tests/e2e -m clients

test-unit: setup-dev
	$(BIN)/pytest tests/unit -n 2

test-integration: setup-dev models test-tools searxng
	$(BIN)/pytest tests/integration

bench: setup-dev models
	$(BIN)/python -m bench

lock:
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --extra agent --group build pyproject.toml -o requirements/client.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links requirements/bootstrap.in -o requirements/bootstrap.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --extra engine --extra llama-server --group build pyproject.toml -o requirements/engine.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links bench/clients/aider.in -o bench/clients/aider.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links requirements/searxng.in -o requirements/searxng.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links requirements/agentdojo.in -o requirements/agentdojo.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --extra agent --extra engine --extra llama-server --group build --group dev pyproject.toml -o requirements/dev.txt

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache
