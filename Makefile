# One machine: `make up`. Everything that is checked: `make test`.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help up test fuzz chaos soak lint format lock screenshots setup setup-dev compose-test audit clean

IMAGES ?=
PORT ?= 8000
HOST ?= 127.0.0.1
# Two test processes: most tests wait for a process or a browser most of the time. The longest files come first.
TEST_OPTIONS ?= -n 2 --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
# pip would advertise its own updates.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := $(BIN)/python -m pip install --quiet

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

up: setup ## Start everything here: make up [IMAGES=DIR] [PORT=8000] [HOST=127.0.0.1]
	@exec $(BIN)/imagesearch up --host "$(HOST)" --port "$(PORT)" $(if $(IMAGES),--images "$(IMAGES)")

test: lint ## Lint, then run all tests: unit, integration, browser
	$(BIN)/python -m pytest $(TEST_OPTIONS)

lint: setup-dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup-dev ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: setup-dev ## Send hostile pictures and requests by the thousand: make fuzz [COUNT=20000] [REQUESTS=10000]
	$(BIN)/python -m tests.fuzz.pictures --count $(or $(COUNT),20000)
	$(BIN)/python -m tests.fuzz.requests --count $(or $(REQUESTS),10000)

chaos: setup-dev ## Kill workers and Redis while folders are indexed: make chaos [SEEDS=10]
	$(BIN)/python -m tests.chaos.run --seeds $(or $(SEEDS),10)

soak: setup-dev ## Searches, jobs and kills for a while; looks for errors and leaks: make soak [MINUTES=30] [PHOTOS=DIR]
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),30) $(if $(PHOTOS),--photos "$(PHOTOS)")

screenshots: setup-dev ## Picture every page and state in build/screenshots: make screenshots [ONLY=crop] [README=1]
	$(BIN)/python -m tests.browser.screenshots $(if $(ONLY),--only "$(ONLY)") $(if $(README),--readme)

compose-test: ## Build the containers, run them, kill them one by one (needs Docker)
	tests/compose/run

audit: build/audit/.ready ## Look for known vulnerabilities in what is pinned (needs the internet)
	$(BIN)/python -m tests.audit build/audit/bin/pip-audit

setup: .venv/.project .venv/.requirements ## Make .venv with what running needs

setup-dev: .venv/.project .venv/.requirements-dev ## Make .venv with what running and testing need

clean: ## Remove .venv and everything that tools left; your data stays
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache imagesearch.egg-info
	find common web workers tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: a step is repeated when the file it reads has changed ----------------------------------

.venv/bin/python:
	@for name in python3.12 python3.11 python3.10 python3; do \
	    if "$$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	        echo "Making .venv with $$("$$name" --version)"; \
	        "$$name" -m venv .venv && exit 0; \
	        rm -rf .venv; \
	        echo "$$name cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "Python 3.10, 3.11 or 3.12 is needed, and none is on the PATH." >&2; exit 1

.venv/.requirements: requirements.txt | .venv/bin/python
	@echo "Installing what imagesearch needs (a few minutes the first time)"
	@$(PIP_INSTALL) --require-hashes -r requirements.txt
	@touch $@

# dev.txt holds everything that requirements.txt does, in the same versions.
.venv/.requirements-dev: requirements/dev.txt | .venv/bin/python
	@echo "Installing what imagesearch and its tests need (a few minutes the first time)"
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@ .venv/.requirements

# Order-only: the requirements bring setuptools, which this step needs.
.venv/.project: pyproject.toml | .venv/.requirements
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

build/audit/.ready: requirements/audit.txt | .venv/bin/python
	@$(BIN)/python -m venv --clear build/audit
	@build/audit/bin/python -m pip install --quiet --require-hashes -r requirements/audit.txt
	@touch $@

# --- the lock files ------------------------------------------------------------------------------------------

# For Python 3.10 to 3.12 on every platform. Needs uv: `pip install uv`. UPGRADE=1 takes the newest versions.
LOCK = uv pip compile --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-strip-extras --no-annotate --no-header --quiet $(if $(UPGRADE),--upgrade)
COMPILE = $(LOCK) pyproject.toml --group build

lock: ## Write the pinned requirements anew (needs uv): make lock [UPGRADE=1]
	$(COMPILE) --group dev --extra web --extra worker --extra up --extra milvus --extra monitoring --output-file requirements/dev.txt
	$(COMPILE) --constraint requirements/dev.txt --extra web --extra worker --extra up --output-file requirements.txt
	$(COMPILE) --constraint requirements/dev.txt --extra web --output-file requirements/web.txt
	$(COMPILE) --constraint requirements/dev.txt --extra worker --output-file requirements/worker.txt
	$(COMPILE) --constraint requirements/dev.txt --extra monitoring --output-file requirements/monitoring.txt
	$(COMPILE) --constraint requirements/dev.txt --extra worker-gpu --output-file requirements/worker-gpu.txt
	$(LOCK) --group audit --constraint requirements/dev.txt --output-file requirements/audit.txt
