# `make demo` and `make test` are all a newcomer needs; CI runs the same commands.
.PHONY: setup demo test check bench clean

PYTHON ?= python3.11
BIN := .venv/bin

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@
