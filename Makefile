# One way in. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Paths are relative, so that the clone may lie on a path with spaces.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SPARK_STAMP := $(VENV)/.installed-spark
PIP := $(PY) -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install -qq --no-deps

# The first of these that is Python 3.11; `make PYTHON=/path/to/python3.11` overrides.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& { echo "$$p"; break; }; done)

# One more than there are cores: tests of jobs and daemons spend half their time waiting.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
TESTS ?= tests
ONCE ?=
ENGINE ?=
CASE ?=
MINUTES ?=

.PHONY: help
help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## Virtual environment in .venv with the pinned dependencies

$(STAMP): requirements/lock.txt requirements/demo.txt requirements/s3.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 was not found as python3.11, python3 or python. Install it, or name it:" \
			"make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PY) -m pip --version >/dev/null 2>&1 || { \
		echo "Creating $(VENV) with $(PYTHON)"; \
		"$(PYTHON)" -m venv --clear $(VENV) || { \
			echo "Creating $(VENV) failed: this Python needs its venv module" \
				"(on Debian the package python3.11-venv)." >&2; exit 1; }; }
	@echo "Installing $$(grep -c == requirements/lock.txt) pinned packages (a minute or two)"
	@$(INSTALL) -r requirements/lock.txt
	@$(INSTALL) --no-build-isolation -r requirements/demo.txt
	@$(INSTALL) -r requirements/s3.txt
	@$(INSTALL) --no-build-isolation -e .
	@touch $(STAMP)
	@echo "Set-up done"

.PHONY: setup-spark
setup-spark: $(SPARK_STAMP) ## The same with Spark, a Java for it, and the jars for s3:// paths

$(SPARK_STAMP): $(STAMP) requirements/spark.txt requirements/java.txt
	@echo "Installing Spark, Java and the jars for s3:// paths (a minute or two; 600 MB)"
	@$(INSTALL) -r requirements/spark.txt
	@$(INSTALL) --no-build-isolation -r requirements/java.txt
	@touch $(SPARK_STAMP)

.PHONY: demo
demo: $(STAMP) $(if $(ENGINE),$(SPARK_STAMP)) ## Files land and are published or quarantined (ONCE=1 ends, ENGINE=spark curates on Spark)
	@$(VENV)/bin/lakegate demo $(if $(filter-out 0 no false,$(ONCE)),--once) \
		$(if $(ENGINE),--engine $(ENGINE))

.PHONY: demo-replay
demo-replay: $(STAMP) ## Files are refused by a wrong contract; it is mended, tried and they are released
	@$(VENV)/bin/lakegate demo --replay

.PHONY: lint
lint: $(STAMP) ## ruff, mypy, and the import arrows
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

.PHONY: test
test: $(SPARK_STAMP) lint ## Linters, then every test (TESTS=path for some)
	$(PY) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(TESTS)

.PHONY: test-soak
test-soak: $(SPARK_STAMP) ## The tests that take long
	$(PY) -m pytest -m soak -n $(WORKERS) --maxprocesses 8 --dist worksteal $(TESTS)

.PHONY: test-kill
test-kill: $(STAMP) ## Kill the path at every boundary, run it again, judge (CASE=path/017-after for one)
	@$(PY) -m tests.replay.kill $(if $(CASE),--case $(CASE)) $(if $(MINUTES),--minutes $(MINUTES))

DLT := $(VENV)/dlt

.PHONY: bench
bench: $(SPARK_STAMP) $(DLT)/.installed ## Every benchmark: a table, and benchmarks/results.json (half an hour)
	@$(PY) benchmarks/all.py

# What the path is measured against, in an environment of its own: it is no part of the project.
$(DLT)/.installed: requirements/bench.txt $(STAMP)
	@echo "Installing dlt, against which the path is measured"
	@$(PY) -m venv --clear $(DLT)
	@$(DLT)/bin/python -m pip --disable-pip-version-check --no-input install -qq -r requirements/bench.txt
	@touch $(DLT)/.installed

.PHONY: screenshots
screenshots: $(STAMP) ## Pictures of the running UI into docs/images (needs Chromium)
	@$(PY) docs/screenshots.py --demo

.PHONY: lock
lock: $(STAMP) ## Resolve requirements/*.txt anew from pyproject.toml
	@$(PIP) install -qq uv
	@$(PY) requirements/lock.py

.PHONY: clean
clean: ## Remove everything that was made
	@rm -rf $(VENV) .lakegate build dist *.egg-info
	@rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
