# `make` alone lists the verbs. Each verb first brings .venv up to the committed lock.
CONFIG ?= configs/laptop.yaml
# More words for the command a verb runs: make serve ARGS="--set gateway.port=9000"
ARGS ?=
# Public question sets for the benchmarks, where they lie beside the checkout.
DATA := $(wildcard ../shared/data)
BIN := .venv/bin
# What starts large programs, or measures time, is tested one after another; engines by themselves on
# a core each; the rest two by two.
ALONE := alone or chromium or prometheus or ray

.DEFAULT_GOAL := help
.PHONY: help serve test heavy parity bench lint types format setup lock clean

help: ## List these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:
	@scripts/setup.sh

serve: setup ## Serve CONFIG (configs/laptop.yaml) until Ctrl-C
	@$(BIN)/headstart serve --config $(CONFIG) $(ARGS)

test: lint types ## Lint, type-check, then run every test that is not marked heavy
	@status=0; set -x; \
	$(BIN)/pytest -m "not heavy and not engine and not ($(ALONE))" --numprocesses 2 --dist loadfile $(ARGS) || status=$$?; \
	$(BIN)/pytest -m "not heavy and engine and not ($(ALONE))" --numprocesses 2 --dist loadfile --core-each $(ARGS) || status=$$?; \
	$(BIN)/pytest -m "not heavy and ($(ALONE))" $(ARGS) || status=$$?; \
	exit $$status

heavy: setup ## Run the tests that take minutes each
	$(BIN)/pytest -m heavy $(ARGS)

parity: setup ## Ask our daemon and vLLM's own server the same, and compare (5 minutes)
	$(BIN)/pytest -m heavy tests/parity $(ARGS)

bench: setup ## Measure one claim: make bench NAME=overhead ARGS=--quick
	@test -n "$(NAME)" || { echo "headstart: which one? make bench NAME=overhead" >&2; exit 2; }
	$(BIN)/headstart bench $(NAME) --json bench-$(NAME).json $(if $(DATA),--data $(DATA)) $(ARGS)

lint: setup ## Check style, format and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: setup ## Check types
	$(BIN)/mypy

format: setup ## Fix what can be fixed by machine
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## Make locks/cpu.txt again (ARGS=--upgrade for newer versions)
	scripts/setup.sh lock $(ARGS)

clean: ## Remove the environment and everything made here
	rm -rf .venv .types .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
