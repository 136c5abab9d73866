# make demo: the main job on the bundled sample sites. make test: every test. Both set up what is missing.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TEST_JOBS ?= 2

.PHONY: setup setup-dev demo test soak check lock clean

setup: .venv/.setup
setup-dev: .venv/.setup-dev .venv-replay/.setup

.venv/bin/python:
	@$(SHELL) .ci/venv $(PYTHON) .venv

.venv/.setup: requirements.lock pyproject.toml | .venv/bin/python
	@echo "installing the pinned packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@$(SHELL) .ci/chromium $(BIN)/python
	@touch $@

.venv/.setup-dev: requirements-dev.lock .venv/.setup
	@echo "installing the packages of the tests"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(SHELL) .ci/tools
	@touch $@

.venv-replay/.setup: requirements-replay.lock
	@$(SHELL) .ci/venv $(PYTHON) .venv-replay
	@.venv-replay/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-replay.lock
	@touch $@

demo: setup
	@$(BIN)/python -m osint_pipeline demo

test: setup-dev
	@$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

soak: setup-dev
	@$(BIN)/python -m pytest -m soak --timeout 7200

check: setup-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lock:
	@for what in "--extra build pyproject.toml -o requirements.lock" "--extra build --extra dev pyproject.toml -c requirements.lock -o requirements-dev.lock" "tests/replay.in -o requirements-replay.lock"; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $$what; done

clean:
	rm -rf .venv .venv-replay

.PHONY: bench
bench: setup-dev
	@$(BIN)/python benchmarks/wire.py --pages 5000 --rounds 3 --long
	@$(BIN)/python benchmarks/keep.py
	@$(BIN)/python benchmarks/rebuild.py
