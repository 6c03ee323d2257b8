# One list of everyday commands. `make help` explains them.
VENV ?= .venv
PY := $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test acceptance bench fuzz bpf clean lock

help: ## What each target does
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: Debian packages, virtual environment, eBPF object
	@VENV=$(VENV) .setup/setup.sh setup

demo: setup ## Real policies on real traffic, ending in a table (KEEP=1 leaves the lab running)
	@$(VENV)/bin/penstock lab demo $(if $(KEEP),--keep)

test: setup ## Lint, type-check and run every test (root for the kernel and lab tiers)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
ifdef ARGS
	$(PY) -m pytest $(ARGS)
else
	@# What needs no kernel runs on all processors. The rest mostly waits, for it measures silence: two files at a time.
	$(PY) -m pytest -m "not bpf and not lab and not acceptance" -n auto --maxprocesses 8 --dist worksteal
	$(PY) -m pytest -m "bpf or lab" -n 2 --dist loadfile
endif

acceptance: ## Suites of others: genuine h2spec, genuine Apache Kafka with seven clients (fetches and builds them first)
	@VENV=$(VENV) .setup/setup.sh acceptance
	$(PY) -m pytest -m acceptance -s

bench: ## Benchmarks side by side with their peers (ONLY=http1 for one of them)
	@VENV=$(VENV) .setup/setup.sh bench
	$(PY) -m benchmarks $(ONLY)

fuzz: ## Coverage-guided fuzzing of the parsers (ONLY=http1_request for one, SECONDS=600 each)
	@VENV=$(VENV) .setup/setup.sh fuzz
	$(PY) -m tests.fuzz $(or $(ONLY),all) $(if $(SECONDS),--seconds $(SECONDS))

bpf: setup ## Compile the eBPF object anew
	$(PY) -m bpf.build --force

lock: setup ## Write the lock files anew from pyproject.toml (needs the network)
	@VENV=$(VENV) .setup/lock.sh

clean: ## Remove the virtual environment and everything built
	rm -rf $(VENV) bpf/*.bpf.o benchmarks/out .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
