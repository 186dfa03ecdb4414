# Everything is done from here: `make app` starts the workbench, `make test` tests it. Needs GNU make 3.81 or newer and
# Python 3.11 to 3.13 (another one than python3: `make app PYTHON=python3.12`). Windows: see docs/install.md.

VENV = .venv
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check install
# What the test targets hand to pytest: `make test PYTEST_ARGS="tests/core -k volume"`.
PYTEST_ARGS ?=
# Test processes that share the test files; 0: none but pytest's own.
WORKERS ?= 2
# `make test-long` adds one that takes the tests of schedulers and network file systems, which mostly wait.
LONG_WORKERS = $(if $(filter 0,$(WORKERS)),0,$$(($(WORKERS) + 1)))
# Measure branch coverage in `make test`, which has a floor: `make test COVERAGE=1`. Child processes are not measured, but
# for those that decode files in the tests of imaging.
COVERAGE ?=
COVERAGE_FLOOR ?= 93
# What `make app` hands to Streamlit: `make app APP_ARGS="--server.port 8600"`.
APP_ARGS ?=
# Another build of torch, by its package index: `make app TORCH_INDEX=https://download.pytorch.org/whl/cpu`.
TORCH_INDEX ?=
# Minutes that `make demo-model` trains the ready-made model.
MINUTES ?= 10
PYTHON = python3

BY_FILE = --dist loadfile --no-loadscope-reorder
PYTEST = $(PY) -m pytest -n $(WORKERS) $(BY_FILE)
COVER = $(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR))

.DEFAULT_GOAL := help
.PHONY: help app test test-quick test-long faults check lint types format docs demo-model clean distclean

help:
	@echo 'make app        start the workbench on http://127.0.0.1:8501 (makes .venv and installs at first)'
	@echo 'make test       run the tests (PYTEST_ARGS="..." runs some, COVERAGE=1 measures coverage)'
	@echo 'make test-quick run the fast tests only'
	@echo 'make test-long  run the tests that take longer: whole workflows in the browser, many repetitions, real trainings'
	@echo 'make faults     run the fault table alone: kills, full disks, damaged files; print each outcome'
	@echo 'make check      lint, formatting, types and tests: what a change has to pass'
	@echo 'make format     format the code and sort its imports'
	@echo 'make docs       write the generated pages of docs/ anew'
	@echo 'make demo-model train the ready-made model anew (MINUTES=10), evaluate it and write its card'
	@echo 'make clean      remove caches;  make distclean  removes .venv too. Runs and data are never touched.'

app: $(VENV)/installed-app
	$(PY) -m streamlit run app.py $(APP_ARGS)

test: $(VENV)/installed-dev
	$(PYTEST) -m 'not long' $(COVER) $(PYTEST_ARGS)

test-quick: $(VENV)/installed-dev
	$(PYTEST) -m 'not slow and not long and not browser' $(PYTEST_ARGS)

test-long: $(VENV)/installed-dev
	$(PY) -m pytest -n $(LONG_WORKERS) $(BY_FILE) -m long $(PYTEST_ARGS)

faults: $(VENV)/installed-dev
	$(PY) -m pytest -m fault tests/faults tests/browser tests/cluster tests/database tests/core/runs --no-header -q $(PYTEST_ARGS)

check: lint types test

lint: $(VENV)/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/installed-dev
	$(PY) -m mypy

format: $(VENV)/installed-dev
	$(PY) -m ruff check --fix-only --select I .
	$(PY) -m ruff format .

docs: $(VENV)/installed-app
	$(PY) docs/write_options.py
	$(PY) docs/write_layouts.py
	$(PY) docs/write_engine_settings.py
	$(PY) docs/write_commands.py
	$(PY) docs/write_architecture.py

demo-model: $(VENV)/installed-app
	$(PY) docs/make_demo_model.py --minutes $(MINUTES)

# The stamps below record what is installed, so that a second call starts at once.
$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed-app
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/installed-app: requirements.txt pyproject.toml $(VENV)/made
	@if [ -n '$(TORCH_INDEX)' ]; then set -x; $(PIP) --index-url '$(TORCH_INDEX)' "$$(grep '^torch==' requirements.txt)"; fi
	$(PIP) -r requirements.txt
	$(PIP) --quiet --no-deps --editable .
	@touch $@

# Ray for the tests of its engine, apart from the packages of the project, which need none of it.
$(VENV)/ray/installed: requirements-ray.txt $(VENV)/made
	"$(PYTHON)" -m venv $(VENV)/ray
	$(VENV)/ray/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-ray.txt
	@touch $@

$(VENV)/made:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo 'error: expected Python 3.11, 3.12 or 3.13, found no $(PYTHON); say which one: make app PYTHON=/path/to/python' >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import sys; got = sys.version_info[:2]; sys.exit(None if (3, 11) <= got <= (3, 13) else \
	  "error: expected Python 3.11, 3.12 or 3.13, got %d.%d; say which one: make app PYTHON=python3.12" % got)'
	"$(PYTHON)" -m venv $(VENV) || { \
	  echo 'error: this Python cannot make a virtual environment (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	@touch $@

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
