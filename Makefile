# `make demo` and `make test` are all a newcomer needs; CI runs the same commands.
.PHONY: setup clients demo test check bench peers soak lock

PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin

setup: .venv/.installed  ## make .venv, with the `audition` command in it

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

clients: .venv-kserve/.installed .venv-mlserver/.installed  ## public clients that pin other packages

.venv-%/.installed: tests/flows/clients/%.lock
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --no-compile --require-hashes --no-deps -r $<
	touch $@

demo: setup  ## the whole story on real flights, in under 4 minutes
	$(BIN)/audition demo

test: setup clients  ## every test
	$(BIN)/python -m pytest

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## every figure, with its bar
	$(BIN)/python -m loadtests.bench

peers: setup  ## the same model in other servers; downloads each of them once
	$(BIN)/python -m loadtests.peers

soak: setup  ## ten minutes of everything: does memory stay flat?
	$(BIN)/python -m loadtests.soak

lock:  ## pin every dependency by hash; needs uv
	uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url \
		--no-header --python-version 3.11 --upgrade --output-file requirements.lock
	for lock in loadtests/peers/locks/*.in tests/flows/clients/*.in; do \
		uv pip compile $$lock --generate-hashes --no-emit-index-url --no-header --no-annotate \
			--python-version 3.11 --upgrade --output-file $${lock%.in}.lock || exit 1; \
	done
