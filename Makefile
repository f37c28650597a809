# Everything is installed into .venv, once; each target sets up what it needs.
#
#   make local-run DATE=2013-01-02 ENGINE=sandbox ARGS="-p ProcessingInstanceCount=3"

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
PYTHON  ?= python3
DATE    ?=
ENGINE  ?= auto
ENV     ?= dev
ARGS    ?=
SECONDS ?= 60
SHARE ?= 1
export UV_NATIVE_TLS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup local-run watch plan promote validate image test test-fast conformance attack coverage lint format lock docs bench clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv (once)

# uv does the installing. Where it is missing, pip brings it, with pip's own settings (proxies, private index, CA);
# pip's index is handed on to uv, which does not read pip's configuration.
$(STAMP): requirements.lock pyproject.toml
	@if command -v uv >/dev/null; then \
	  [ -x $(BIN)/python ] || uv venv --quiet --python $(PYTHON) $(VENV); \
	else \
	  [ -x $(BIN)/uv ] || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; } || { \
	    echo "Cannot make a virtual environment. Install Python 3.11 or newer with venv (Debian, Ubuntu:" \
	         "sudo apt-get install python3-venv), or uv."; exit 2; }; \
	fi
	@export PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)"; \
	index=$$($(PYTHON) -m pip config get global.index-url 2>/dev/null || true); \
	[ -n "$${UV_DEFAULT_INDEX-$$index}" ] && export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX-$$index}"; \
	echo "Installing into $(VENV) (about 30 s, once) ..."; \
	uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock && uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

local-run: $(STAMP) ## Run the pipeline on this machine against data/sample (DATE=, ENGINE=, ARGS=)
	@$(BIN)/local-runner run --engine $(ENGINE) $(if $(DATE),--date $(DATE)) $(ARGS)

watch: $(STAMP) ## Run the pipeline again at each save, in hot workers (DATE=, ENGINE=, ARGS=)
	@$(BIN)/local-runner watch --engine $(ENGINE) $(if $(DATE),--date $(DATE)) $(ARGS)

plan: $(STAMP) ## Show what a promotion would change in the AWS account (ENV=dev, ARGS=); changes nothing
	@$(BIN)/local-runner plan --env $(ENV) $(ARGS)

promote: $(STAMP) ## Bring to the AWS account what ran here, with its schedule (ENV=dev, ARGS=)
	@$(BIN)/local-runner promote --env $(ENV) $(ARGS)

validate: $(STAMP) ## List every problem of the pipeline, before anything runs
	@$(BIN)/local-runner validate $(ARGS)

image: $(STAMP) ## Build the processing image, if its content changed
	@$(BIN)/local-runner image

test: $(STAMP) ## Run all tests (ARGS= for pytest)
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

test-fast: $(STAMP) ## Run the tests that take less than half a minute together, and need no engine (ARGS= for pytest)
	@$(BIN)/python -m pytest -n auto --dist loadgroup -m "not docker and not sandbox and not slow" tests/unit tests/test_scripts.py $(ARGS)

conformance: $(STAMP) ## Run every point of the contract on every engine, and write docs/CONFORMANCE.md
	@$(BIN)/python -m pytest -n auto --dist loadgroup -k test_point tests/conformance $(ARGS)
	@$(BIN)/python tests/conformance/table.py

attack: $(STAMP) ## Attack the machine from jobs, and the runner itself; writes docs/RELIABILITY.md (SECONDS=60, SHARE=1, ARGS=)
	@export ATTACK_SECONDS=$(SECONDS) ATTACK_SHARE=$(SHARE) ATTACK_ROWS=$$(mktemp); \
	nice $(BIN)/python -m pytest --timeout 7200 tests/attacks $(ARGS); status=$$?; \
	$(BIN)/python tests/attacks/reliability.py; exit $$status

coverage: $(STAMP) ## Run all tests and report which lines and branches they reach (ARGS= for pytest)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n auto --dist loadgroup $(ARGS); status=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report; exit $$status

lint: $(STAMP) ## Check style (ruff), types (pyright; strict in the package) and who imports whom (import-linter)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright && $(BIN)/pyright -p tests && $(BIN)/lint-imports

format: $(STAMP) ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: $(STAMP) ## Pin what pyproject.toml asks for, with hashes
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --extra compile --group dev pyproject.toml -o requirements.lock

docs: $(STAMP) ## Write docs/COMMANDS.md from the commands, and build the documents as a site in site/
	@$(BIN)/python docs/commands.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP) ## Measure: side by side with stock local mode, and the runner's own overhead (benchmarks/RESULTS.md)
	@$(BIN)/python benchmarks/side_by_side.py
	@$(BIN)/python benchmarks/cached.py
	@$(BIN)/python benchmarks/overhead.py $(ARGS)
	@$(BIN)/python benchmarks/objects.py

clean: ## Remove local S3, runs, caches, the site and .venv (images stay)
	@rm -rf .local_runner $(VENV) .pytest_cache .ruff_cache .hypothesis site .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
