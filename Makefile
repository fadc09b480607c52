# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The first Python that really runs and fits; a pyenv shim may exist for a version that does not.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
DATA ?= skfolio:sp500
DEMO_ARGS ?=
CHAOS_ARGS ?=
DRILL_ARGS ?=
LOADTEST_ARGS ?=
FUZZ_ARGS ?=
UNIT ?= tests/unit tests/contract
SLOW ?= slow and not long
DATA_FOLDER ?= ../shared/data
FEED ?= $(DATA_FOLDER)/binance_usdm_btcusdt_20240808.gz
PROOF ?=
STAMP := $(VENV)/.installed
COMPILED := $(VENV)/.compiled

.PHONY: compose-check setup demo experiment-demo test test-slow fuzz fuzz-audit fuzz-api proof unit lint types chaos drill models-report bench loadtest lock up down clean

setup: $(COMPILED)

$(STAMP): requirements.lock pyproject.toml stack/servers/files/kafka/jgo.toml stack/servers/files/kafka/jars.sha256
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 to 3.13 is needed and none is on PATH: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || { command -v uv >/dev/null && uv venv -q --seed --python "$(PYTHON)" $(VENV); } || "$(PYTHON)" -m venv $(VENV) \
		|| { echo "error: no virtual environment could be made: install uv, or your system's python3-venv" >&2; rm -rf $(VENV); exit 2; }
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check uv
	@echo "installing the locked packages (a few minutes on a slow line)"
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --python $(BIN)/python --require-hashes --no-deps --compile-bytecode -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m stack.servers.install_kafka
	@touch $@

# What decides is compiled now, not while the first gateway starts; meanwhile it is recorded what Kafka's Java starts with.
$(COMPILED): $(STAMP) stack/servers/kafka.py $(shell find trading -name '*.py')
	@$(BIN)/python -m stack.servers.record_kafka & recording=$$!; trap 'kill $$recording 2>/dev/null || true' EXIT; \
		$(BIN)/python -m gateway.precompile && { wait $$recording || true; }
	@touch $@

demo: setup
	@$(BIN)/ultrathink demo --data "$(DATA)" $(DEMO_ARGS)

# Three models of a market whose signal is known: which is better? A recorded feed, where there is one, is decided too.
experiment-demo: setup
	@$(BIN)/ultrathink experiment demo $(if $(wildcard $(FEED)),--feed "binance:$(FEED)") $(DEMO_ARGS)

# Everything but what is marked slow, in two runs side by side; the ten longest of each are shown.
test: setup
	@$(BIN)/python -m tests.side_by_side

unit: setup
	@$(BIN)/pytest -m "not slow" $(UNIT)

# Ports, topics, variables, commands, files and passwords of docker-compose.yml against the code; needs no Docker.
compose-check: setup
	@$(BIN)/pytest -q tests/contract/test_compose.py

# Kills, floods, releases under load; the longest of them run with `make proof`.
test-slow: setup
	@$(BIN)/pytest -m "$(SLOW)" --durations=60

# A million inputs, guided by coverage; `make test` has a short form.
fuzz: setup
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

# 10,000 changes of a trail on a real PostgreSQL, each of which must be found where it was; `make test` has a short form.
fuzz-audit: setup
	@$(BIN)/python -m tests.fuzz.audit $(FUZZ_ARGS)

# 100,000 requests that the data service's document allows, and that it does not; `make test` has a short form.
fuzz-api: setup
	@$(BIN)/python -m tests.fuzz.api $(FUZZ_ARGS)

# What takes longer than a change may wait for, all but the drill; `make proof PROOF=drill` is that, an hour by itself.
# Figures are written with commit and date, to be committed.
proof: setup
	@.ci/programs
	@$(BIN)/python -m benchmarks.proof $(PROOF)

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/ultrathink export configs --check --repository model_repository
	@$(BIN)/python -m stack.deploying.files --check

types: setup
	@$(BIN)/mypy

chaos: setup
	@$(BIN)/ultrathink chaos $(CHAOS_ARGS)
	@$(BIN)/ultrathink chaos --loop

# Every fault that has an alert, every process killed, backup and restore: an hour.
drill: setup
	@$(BIN)/ultrathink drill $(DRILL_ARGS)

models-report: setup
	@$(BIN)/ultrathink train report --folder "$(DATA_FOLDER)" --out docs

bench: setup
	@$(BIN)/python -m benchmarks.all "$(DATA_FOLDER)"

# Exit code 0: every target held, 1: one was missed, 2: the run proves nothing.
loadtest: setup
	@$(BIN)/ultrathink loadtest all $(LOADTEST_ARGS)

# One lock of everything, and one a role with the same versions; hashes, and no addresses.
ROLES := services exporters trainers orchestrator loadtest mlflow embedded build
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate -q
lock:
	@$(COMPILE) --all-extras -o requirements.lock
	@$(COMPILE) -c requirements.lock -o deploy/locks/gateway.lock
	@for role in $(ROLES); do $(COMPILE) --extra $$role -c requirements.lock -o deploy/locks/$$role.lock || exit 1; done

up: setup
	@$(BIN)/ultrathink stack up

down:
	@$(BIN)/ultrathink stack down

clean:
	@$(BIN)/ultrathink stack down 2>/dev/null || true
	rm -rf $(VENV) .ultrathink
