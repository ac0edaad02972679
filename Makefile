# From a fresh clone, with python3, make and a network: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
WORKFLOWS := $(filter-out quickstart slurm,$(notdir $(wildcard workflows/*)))

.PHONY: help demo test gate gate-types gate-examples gate-docstrings gate-layers docs bench clean \
  $(WORKFLOWS)

help:
	@echo "make demo    install into .venv and run workflows/quickstart"
	@echo "make test    install into .venv and run the tests"
	@echo "make faces   run workflows/faces; so $(filter-out faces,$(WORKFLOWS))"
	@echo "make gate    every other check: style, types, layers, docstrings, doctests, docs"
	@echo "make docs    build docs/_build"
	@echo "make bench   a tiny size of every benchmark"
	@echo "make clean   remove .venv, builds and caches"

demo: .venv/installed
	$(BIN)/python workflows/quickstart/run.py

# On real data where there are any to be had; make gwas ARGS="--people 100" for other options.
genotype_pca: ARGS ?= --real
$(WORKFLOWS): .venv/installed
	cd workflows/$@ && ../../$(BIN)/python run.py $(ARGS)

# Many tests wait for processes: four at a time. A thousand processes start: what they compile is
# kept. Threads of BLAS that have nothing to do sleep at once, and leave the cores to others.
test: export PYTHONDONTWRITEBYTECODE =
test: export OPENBLAS_THREAD_TIMEOUT = 4
test: .venv/installed
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# Each of these computes on one core, and none writes what another reads: two at a time.
gate: .venv/installed-gate
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory -j 2 gate-types docs gate-examples gate-docstrings gate-layers

gate-types: .venv/installed-gate
	$(BIN)/mypy

gate-examples: .venv/installed-gate
	$(BIN)/python -m pytest --doctest-modules leptonhpc

gate-docstrings: .venv/installed-gate
	find leptonhpc -name '*.py' | sort | xargs $(BIN)/python -m numpydoc lint --config .

gate-layers: .venv/installed-gate
	$(BIN)/lint-imports

docs: .venv/installed-gate
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

bench: .venv/installed-bench
	for name in svd matmul svd_values factorisations plan overhead placement scale eof genotypes als nmf parallel train; do \
	  $(BIN)/python benchmarks/$$name.py --tiny || exit 1; done

clean:
	rm -rf .venv build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

FRESH = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
  || { echo "leptonhpc needs Python 3.11 to 3.13; say which: make PYTHON=python3.12 ..."; exit 1; }; \
  $(PYTHON) -m venv --clear .venv

# An installation that was interrupted leaves packages without metadata, on which pip itself fails.
WHOLE := import importlib.metadata as m; m.version("pip"); \
  assert all(d.name and d.version and d.read_text("RECORD") for d in m.distributions())

define mended
@$(BIN)/python -I -c '$(WHOLE)' 2> /dev/null \
  || { echo "an installation was interrupted: .venv is made anew"; $(FRESH); }
endef

INSTALL := $(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable

# An environment is as old as the last pyproject.toml that it was made from.
.venv/bin/python:
	@$(FRESH)

.venv/installed: pyproject.toml | .venv/bin/python
	$(mended)
	$(INSTALL) '.[test,xarray]'
	touch $@

.venv/installed-gate: .venv/installed
	$(mended)
	$(INSTALL) '.[test,xarray,docs]'
	touch $@

.venv/installed-bench: .venv/installed
	$(mended)
	$(INSTALL) '.[test,xarray,bench]'
	touch $@
