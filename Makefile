# `make try`, `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: try demo test test-slow coverage docs lint bench bench-libraries study dist clean

try: .venv/installed
	$(BIN)/python examples/try.py

demo: .venv/installed
	$(BIN)/python examples/quickstart.py

test: .venv/installed
	$(BIN)/pytest -m "not slow" -n auto --dist loadfile

test-slow: .venv/installed
	$(BIN)/pip install --quiet --editable ".[compare]"
	$(BIN)/pytest -m slow

coverage: .venv/installed
	$(BIN)/pytest -m "not slow" -n auto --dist loadfile --cov --cov-report=term-missing

# Half an hour on a quiet machine of two cores.
bench: .venv/installed
	for name in engine attack kendall; do \
		$(BIN)/python benchmarks/$$name.py --out benchmarks/results/$$name.json || exit 1; \
	done
	-$(MAKE) bench-libraries
	$(BIN)/python benchmarks/table.py

# Other libraries need older versions of NumPy and TensorFlow: in an environment of their own. PyTorch is large.
bench-libraries: .venv-libraries/installed
	.venv-libraries/bin/python benchmarks/libraries.py --out benchmarks/results/libraries.json

.venv-libraries/installed:
	$(PYTHON) -m venv .venv-libraries
	.venv-libraries/bin/pip install --quiet --editable . "tensorflow<2.21" "numpy<2" torch captum alibi click deprecated \
		einops "opencv-python-headless<4.12" "tensorflow-probability[tf]<0.26"
	-.venv-libraries/bin/pip install --quiet --no-deps xplique  # it asks for a newer NumPy, and works with this one
	touch $@

# Hours: trials of training settings on validation images; goes on where it was stopped.
study: .venv/installed
	$(BIN)/python benchmarks/study.py

docs: .venv/installed
	$(BIN)/mkdocs build --strict

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What is uploaded to a package index: a source distribution, and the wheel built from it.
dist: .venv/installed
	rm -rf dist
	$(BIN)/python -m build

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-libraries build dist *.egg-info
