# `make` lists the targets. Everything runs in .venv, which the first target that needs it makes.

PYTHON ?=
UV ?= uv
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.stamp-install
BENCH_INSTALLED := .bench-venv/.stamp-install
# Debian packages that tests need beside Python's own; none so far.
DEBIAN_PACKAGES :=

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-system coverage check format docs bench bench-erlang lock clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv from requirements/dev.lock (PYTHON=... picks the interpreter)

$(INSTALLED): requirements/dev.lock requirements/make-env pyproject.toml
	@sh requirements/make-env .venv requirements/dev.lock
	@touch $@

$(BENCH_INSTALLED): requirements/bench.lock requirements/make-env pyproject.toml
	@sh requirements/make-env .bench-venv requirements/bench.lock
	@touch $@

demo: $(INSTALLED) ## Run the demo
	@$(BIN)/dspex demo $(ARGS)

test: $(INSTALLED) test-system ## Run the fast tests (ARGS=... goes to pytest)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(INSTALLED) $(BENCH_INSTALLED) test-system ## Run the slow tests (some beside DSPy, in .bench-venv), and every property on 2,000 examples
	$(BIN)/python -m pytest -m slow --timeout=900 $(ARGS)
	$(BIN)/python -m pytest tests/property -n auto --dist worksteal --hypothesis-profile=slow --timeout=900 $(ARGS)
	@$(MAKE) --no-print-directory coverage

coverage: $(INSTALLED) ## Measure which lines and branches of the runtime its own tests reach
	$(BIN)/python -m pytest -q tests/conformance tests/unit/runtime tests/property/test_runtime_*.py \
		tests/property/test_groups.py tests/property/test_registry_machine.py tests/integration/test_application.py \
		--cov=dspex.runtime --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(ARGS)

test-system:
	@missing=; for package in $(DEBIAN_PACKAGES); do \
		dpkg-query -W "$$package" >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "make: the tests need these packages:$$missing" >&2; exit 1; \
	fi; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing

check: $(INSTALLED) ## Everything that must hold: format, lint, types, fast tests, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory docs

format: $(INSTALLED) ## Format the code and apply the linter's safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(BENCH_INSTALLED) ## Run the benchmarks beside their peers, in .bench-venv
	.bench-venv/bin/python -m benchmarks $(ARGS)

bench-erlang: $(BENCH_INSTALLED) ## Run the rows beside Erlang/OTP, where it is installed
	.bench-venv/bin/python -m benchmarks --erlang $(ARGS)

lock: ## Write requirements/*.lock anew (needs uv; UV=... names it)
	@for group in dev bench; do \
		$(UV) pip compile pyproject.toml --extra all --group $$group --universal --python-version 3.11 \
			--generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade --quiet \
			-o requirements/$$group.lock || exit 1; \
	done
	@! grep -nE '://|^torch==' requirements/dev.lock requirements/bench.lock

clean: ## Remove caches and what was built
	rm -rf site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove the environments too
	rm -rf .venv .bench-venv
