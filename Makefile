# `make run` trains and reports a small study, `make test` checks what a change can break (minutes),
# `make test-all` adds the campaigns: every crash, every committed report, wheels, compiled steps.

PYTHON ?= python3
BIN := .venv/bin
STUDY ?= oneshot_digits

.PHONY: run test test-all clean

run: .venv/installed
	$(BIN)/boss-study run $(STUDY)
	$(BIN)/boss-study report $(STUDY)

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: .venv/installed-test
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch .venv/installed $@
