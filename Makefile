# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-slow coverage docs lint bench study clean

demo: .venv/installed
	$(BIN)/python examples/quickstart.py

test: .venv/installed
	$(BIN)/pytest -m "not slow" -n auto

test-slow: .venv/installed
	$(BIN)/pip install --quiet --editable ".[compare]"
	$(BIN)/pytest -m slow

coverage: .venv/installed
	$(BIN)/pytest -m "not slow" -n auto --cov --cov-report=term-missing

# Half an hour on a quiet machine of two cores. Libraries that do not install are left out of the comparison.
bench: .venv/installed
	-$(BIN)/pip install --quiet captum alibi xplique
	for name in engine libraries attack kendall; do \
		$(BIN)/python benchmarks/$$name.py --out benchmarks/results/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/table.py

# Hours: trials of training settings on validation images; goes on where it was stopped.
study: .venv/installed
	$(BIN)/python benchmarks/study.py

docs: .venv/installed
	$(BIN)/mkdocs build --strict

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
