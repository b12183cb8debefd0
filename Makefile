# Every target is one command; CI calls the same ones. `make demo` and `make test` need only Python 3.11, git and make.
export UV_PYTHON_DOWNLOADS := never
export OMP_NUM_THREADS ?= 1
# Seven services import two thousand modules: where Python may not write bytecode itself, each start would compile them.
export UV_COMPILE_BYTECODE := 1
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run --frozen --no-sync
PY := $(shell find libs services cli tests bench examples -name '*.py' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup gen pins fmt lint type imports generated check test test-e2e test-dashboards simulate fuzz demo backtest bench bench-drift chaos up down clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.tools/bin/uv:
	python3 -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

.venv/.ready: pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml cli/pyproject.toml) | $(filter .tools/%,$(UV))
	$(UV) sync --quiet --all-packages && touch $@

setup: .venv/.ready ## the environment, from pinned versions

gen: .venv/.ready ## models, docs and graph from schemas/
	$(RUN) python -m trimtab.contracts.generate

pins: ## renew the pinned versions in pyproject.toml
	python3 tools/pins.py $(UV)

fmt: .venv/.ready ## format
	$(RUN) ruff format . && $(RUN) ruff check --fix .

lint: .venv/.ready
	$(RUN) ruff format --check . && $(RUN) ruff check .

type: .venv/.ready
	$(RUN) mypy

imports: .venv/.ready
	$(RUN) lint-imports

generated: .venv/.ready
	$(RUN) python -m trimtab.contracts.generate --check

check: lint type imports generated ## lint, types, imports, generated code is current

test: .venv/.ready ## all tests, with a real broker
	$(RUN) pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

test-e2e: .venv/.ready ## whole clusters: up and down, a person's own data, live against backtest
	$(RUN) pytest tests/e2e

test-dashboards: .venv/.ready ## the dashboards' queries and the alerts against a real Prometheus (needs its program: apt-get install prometheus)
	$(RUN) pytest tests/observability

simulate: .venv/.ready ## the runtime and the services on simulated clusters: five minutes of seeded faults, and every planted bug found
	$(RUN) python -m tests.simulation --minutes 5

fuzz: .venv/.ready ## a hundred thousand bad inputs at every entry: none crashes it, none is lost
	$(RUN) python -m tests.fuzz --inputs 100000

demo: .venv/.ready ## a year of real flights through the closed loop, ends with a report
	$(RUN) trimtab demo

backtest: .venv/.ready ## what each retraining policy would have cost and gained on the flights year
	$(RUN) trimtab backtest examples/flights --policy never --policy every=7d --policy every=30d --policy loop --history 60d --history all

bench: .venv/.ready ## throughput, latency, restore time, memory
	$(RUN) python bench/run.py

bench-drift: .venv/.ready ## false alarms and delays of the drift detectors
	$(RUN) python bench/drift.py

chaos: .venv/.ready ## kills, bad networks, a full disk, other releases, three brokers: is anything lost or doubled? (40 minutes)
	$(RUN) python tests/chaos/campaign.py --plain

up: .venv/.ready ## a local cluster
	$(RUN) trimtab up

down: .venv/.ready
	$(RUN) trimtab down

clean: ## all that can be made again
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
