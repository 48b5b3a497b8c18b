# `make help` lists the targets. Everything runs in .venv, set up by the first target that needs it.
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check format bench

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.installed ## set up .venv with exact versions

.venv/.installed: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11; name another with make PYTHON=python3.12"; exit 1; }
	@echo "setting up .venv (about 6 GB, a minute on a fast line)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@if command -v uv >/dev/null; then INSTALL="uv pip install --python $(BIN)/python --compile-bytecode"; \
	elif $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; then \
		INSTALL="$(BIN)/python -m uv pip install --python $(BIN)/python --compile-bytecode"; \
	else INSTALL="$(BIN)/python -m pip install --disable-pip-version-check"; fi; \
	$$INSTALL --quiet -c .ci/constraints.txt -e '.[dev]'
	@touch $@

demo: install ## train the default tokenizer on embedded photographs, print the table, write the figure
	$(BIN)/python -m experiments.train

test: install ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: install ## all tests
	$(BIN)/python -m pytest -n 2

check: install ## style, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell conf experiments tests tokenizer README.md .github/CONTRIBUTING.md Makefile

format: install ## fix style automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## time look-ups, entropies and sampling beside plain versions and a library
	$(BIN)/python tests/bench/bench_quantizers.py
	$(BIN)/python tests/bench/bench_sampling.py
