# Two commands: `make serve` and `make test`. Settings are environment variables REPERTOIRE_*.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
# Passed to pip where it would otherwise take another build of torch than the machine needs.
TORCH_INDEX_URL ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Processes that run tests.
WORKERS ?= 2
URL ?= http://127.0.0.1:$(PORT)

export REPERTOIRE_PORT ?= $(PORT)

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve test test-crash test-kinds test-fuzz bench bench-eviction bench-fairness bench-fleet-lag bench-routing fleet support-table lint format demo-eval clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make .venv with what the server needs

install-dev: $(VENV)/.installed-dev ## the same and what tests and checks need

serve: install ## start the server with the demo base and the demo adapters (PORT=8000)
	REPERTOIRE_BASE_MODEL=$${REPERTOIRE_BASE_MODEL:-demo/demo-base} \
	REPERTOIRE_EXAMPLE_MODEL=$${REPERTOIRE_EXAMPLE_MODEL:-date-iso} \
	REPERTOIRE_EXAMPLE_PROMPT=$${REPERTOIRE_EXAMPLE_PROMPT:-March 5, 2024 =>} \
	$(BIN)/python -m service serve

test: install-dev ## install what tests need and run them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadgroup

test-crash: install-dev ## kills at random moments, the long form (CRASH_KILLS=1000)
	CRASH_KILLS=$${CRASH_KILLS:-1000} $(BIN)/python -m pytest -m slow tests/crash tests/e2e

test-kinds: install-dev ## every kind of adapter on every architecture, every field of every config
	$(BIN)/python -m pytest -m slow tests/contract tests/compiler

test-fuzz: install-dev ## hostile input, the long form (FUZZ_CASES=1000 of each target)
	FUZZ_CASES=$${FUZZ_CASES:-1000} $(BIN)/python -m pytest -m slow -s tests/fuzz

bench: install-dev ## the engine against its limits (BARS="1 3", BASES=base-s)
	$(BIN)/python -m tests.bench.engine $(if $(BARS),--bars "$(BARS)") $(if $(BASES),--bases "$(BASES)")

bench-eviction: install-dev ## eviction policies compared on a Zipf trace
	$(BIN)/python -m tests.bench.eviction

bench-fairness: install-dev ## streams beside a storm of cold adapters; shares under unequal load
	$(BIN)/python -m tests.bench.fairness

bench-fleet-lag: install-dev ## how soon one replica serves what another has acknowledged
	$(BIN)/python -m tests.bench.fleet_lag

bench-routing: install-dev ## routings of 10 000 adapters compared in simulation: docker/ROUTING.md (REPORT=…)
	$(BIN)/python -m tests.bench.fleet_simulation --page $(if $(REPORT),--json $(REPORT))

fleet: install-dev ## two replicas, Redis, balancer: load, kills, an outage, a rolling restart (S3=1 REPORT=…)
	$(BIN)/python -m tests.fleet $(if $(S3),--s3) $(if $(REPORT),--json $(REPORT))

support-table: install-dev ## write KINDS.md anew: what becomes of each kind on each architecture
	$(BIN)/python -m tests.contract.support

lint: install-dev ## ruff, mypy, import rules, Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict service
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: install-dev ## let ruff put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo-eval: install-dev ## exact match of every demo adapter on a running server (URL=…)
	$(BIN)/python demo/eval.py --url $(URL)

clean: ## remove the environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .cache *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(BIN)/python
	@if [ -n "$(TORCH_INDEX_URL)" ]; then \
		$(PIP) install --index-url "$(TORCH_INDEX_URL)" "torch>=2.11,<2.14"; fi
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.torch
	@echo "Installing; torch alone is some hundred MB …"
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.torch
	@echo "Installing with test tools …"
	$(PIP) install --editable ".[dev]"
	@touch $(VENV)/.installed $@
