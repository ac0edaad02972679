# From a fresh clone, with python3, make and a network: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test gate docs bench clean

help:
	@echo "make demo    install into .venv and run workflows/quickstart"
	@echo "make test    install into .venv and run the tests"
	@echo "make gate    every other check: style, types, layers, docstrings, doctests, docs"
	@echo "make docs    build docs/_build"
	@echo "make bench   a tiny size of every benchmark"
	@echo "make clean   remove .venv, builds and caches"

demo: .venv/installed
	$(BIN)/python workflows/quickstart/run.py

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile  # many tests wait for processes: two at a time

gate: .venv/installed-gate
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	find leptonhpc -name '*.py' | sort | xargs $(BIN)/python -m numpydoc lint --config .
	$(BIN)/python -m pytest --doctest-modules leptonhpc
	$(MAKE) --no-print-directory docs

docs: .venv/installed-gate
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

bench: .venv/installed-bench
	for name in svd matmul svd_values factorisations plan overhead placement scale eof genotypes als nmf parallel train; do \
	  $(BIN)/python benchmarks/$$name.py --tiny || exit 1; done

clean:
	rm -rf .venv build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# An environment is as old as the last pyproject.toml that it was made from.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "leptonhpc needs Python 3.11 to 3.13; say which: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[test,xarray]'
	touch $@

.venv/installed-gate: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[test,xarray,docs]'
	touch $@

.venv/installed-bench: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[test,xarray,bench]'
	touch $@
