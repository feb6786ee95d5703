# `make` lists the targets. Everything runs in .venv, which the first target that needs it makes and others let grow.

PYTHON ?=
UV ?= uv
ARGS ?=
BIN := .venv/bin
# Debian packages that tests need beside Python's own. Such a test calls tests.support.missing.missing()
# where it does not find what it needs.
DEBIAN_PACKAGES := redis-server postgresql chromium

export PYTHON UV

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-system coverage check lint format docs bench bench-erlang lock names changelog clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Environments: $(call environment,FOLDER,LOCK) is what to depend on for requirements/LOCK.lock in FOLDER.
define environment
$(1)/.stamp-$(2): requirements/$(2).lock requirements/make-env requirements/make_env.py pyproject.toml
	@sh requirements/make-env $(1) $(2)
endef
$(eval $(call environment,.venv,demo))
$(eval $(call environment,.venv,test))
$(eval $(call environment,.venv,dev))
$(eval $(call environment,.bench-venv,bench))

# demo is a part of test and test of dev, version by version: where there is more already, that does.
FOR_DEV := .venv/.stamp-dev
FOR_TESTS := $(or $(wildcard $(FOR_DEV)),.venv/.stamp-test)
FOR_DEMO := $(or $(wildcard $(FOR_DEV)),$(wildcard .venv/.stamp-test),.venv/.stamp-demo)
# The page of `make demo ARGS=--watch` needs more than the demo does.
FOR_DEMO := $(if $(findstring --watch,$(ARGS)),$(FOR_TESTS),$(FOR_DEMO))
FOR_BENCH := .bench-venv/.stamp-bench

# As many workers as the machine has processors, each of which begins with tests of the same files.
CORES := -n logical --maxprocesses 8 --dist worksteal

install: $(FOR_DEV) ## Make .venv with everything for work on dspex (PYTHON=... picks the interpreter)

demo: $(FOR_DEMO) ## Run the demo (ARGS=--watch shows it on a page as well)
	@$(BIN)/dspex demo $(ARGS)

test: $(FOR_TESTS) test-system ## Run the fast tests (ARGS=... goes to pytest)
	$(BIN)/python -m pytest -m "not slow" $(CORES) $(ARGS)

test-slow: $(FOR_TESTS) $(FOR_BENCH) test-system ## Run the slow tests (some beside DSPy, in .bench-venv), and every property on 2,000 examples
	$(BIN)/python -m pytest -m slow --timeout=900 $(ARGS)
	$(BIN)/python -m pytest tests/property -m "not slow" $(CORES) --hypothesis-profile=slow --timeout=900 $(ARGS)
	@$(MAKE) --no-print-directory coverage

coverage: $(FOR_TESTS) ## Measure which lines and branches of the runtime its own tests reach
	$(BIN)/python -m pytest -q tests/conformance tests/unit/runtime tests/property/test_runtime_*.py \
		tests/property/test_groups.py tests/property/test_registry_machine.py tests/integration/test_application.py \
		--cov=dspex.runtime --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(ARGS)

# Installs what it may; what then is missing skips the tests that need it, and under CI fails them.
test-system:
	@missing=; for package in $(DEBIAN_PACKAGES); do \
		dpkg-query -W "$$package" >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing for the tests:$$missing"; \
		if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; then exit 0; fi; \
	fi; \
	echo "make: not installed, so the tests that need it cannot run:$$missing" >&2; \
	[ -z "$$CI" ]

check: $(FOR_DEV) ## Everything that must hold: format, lint, types, fast tests, docs
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory docs

lint: $(FOR_DEV) ## Format, lint and types alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(FOR_DEV) ## Format the code and apply the linter's safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(FOR_DEV) ## Build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(FOR_BENCH) ## Run the benchmarks beside their peers, in .bench-venv
	.bench-venv/bin/python -m benchmarks $(ARGS)

bench-erlang: $(FOR_BENCH) ## Run the rows beside Erlang/OTP, where it is installed
	.bench-venv/bin/python -m benchmarks --erlang $(ARGS)

lock: ## Write requirements/*.lock anew (needs uv, UV=... names it; ARGS=--keep changes no version without need)
	@python=$$(sh requirements/find-python) && "$$python" requirements/lock.py $(ARGS)

names: $(FOR_DEV) ## Write the façades anew from the table of public names, src/dspex/_names.py
	$(BIN)/python -m tests.support.facades

changelog: $(FOR_DEV) ## Build CHANGELOG.md from the fragments (ARGS="--release 0.2.0 --date 2030-01-31" releases them)
	$(BIN)/python changelog.d/build.py $(ARGS)

clean: ## Remove caches and what was built
	rm -rf site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove the environments too
	rm -rf .venv .bench-venv

# --- a real model on this machine ----------------------------------------------------------------------------
.PHONY: demo-real test-real bench-real bench-learning

demo-real: $(FOR_DEMO) ## Run the demo with a real model, fetched once (500 MB) into your cache folder
	@$(BIN)/dspex demo --local $(ARGS)

test-real: $(FOR_TESTS) ## Run the tests on that model; skipped with the reason where it cannot be had
	$(BIN)/python -m pytest -m real tests/real $(ARGS)

bench-real: $(FOR_BENCH) ## Ask a real model in every form, beside DSPy and a plain prompt (ARGS=... names its server and data)
	PYTHONPATH=src:. .bench-venv/bin/python -m benchmarks.real $(ARGS)

bench-retrieval: $(FOR_BENCH) ## Measure what retrievers find on HotpotQA, beside DSPy's (ARGS="--data FOLDER" names the data)
	PYTHONPATH=src:. .bench-venv/bin/python -m benchmarks.retrieval $(ARGS)

bench-learning: $(FOR_BENCH) ## Optimize with that model, beside DSPy's optimizers (hours; ARGS=... names its server and data)
	PYTHONPATH=src:. .bench-venv/bin/python -m benchmarks.learning $(ARGS)
