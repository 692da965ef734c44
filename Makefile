# make lab    opens the workbook            make lab PORT=9000    on a port of your choice
# make test   checks everything             make test PYTHON=…    with a Python of your choice (3.11 to 3.13)
# make bench  measures the figures          make twins            writes and executes the students' notebooks
# make clean  removes the environment and caches; data and runs stay

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help lab test bench twins clean

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PORT ?=
# One file of tests, or one notebook, goes to one worker; each computes on one thread, so that they do not fight.
PYTEST_OPTIONS ?= --numprocesses=auto --maxprocesses=4 --dist=loadscope
LAB_OPTIONS ?=

IS_FIT = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
IS_FREE = import socket, sys; socket.socket().bind(("127.0.0.1", int(sys.argv[1])))

help:
	@sed -n 's/^# //p' Makefile

# Installs only when requirements.txt or pyproject.toml changed since the last time.
$(STAMP): requirements.txt pyproject.toml
	@python=""; \
	for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
		if "$$candidate" -c '$(IS_FIT)' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "$(if $(PYTHON),$(PYTHON) is not a,No) Python 3.11, 3.12 or 3.13 with venv$(if $(PYTHON),, was found); name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	if ! "$(BIN)/python" -c '$(IS_FIT)' 2>/dev/null; then rm -rf "$(VENV)" && "$$python" -m venv "$(VENV)" || exit 1; fi; \
	echo "Installing into $(VENV): some minutes and about 6 GB the first time."; \
	if ! "$(BIN)/python" -m pip install --disable-pip-version-check --retries 2 --timeout 15 -e . 2> "$(VENV)/pip-errors.txt"; then \
		if grep -qiE 'connection|resolve|resolution|unreachable|timed out|from versions: none' "$(VENV)/pip-errors.txt"; then \
			echo "Packages are missing and the network cannot be reached: connect, then run make $(MAKECMDGOALS) again." >&2; \
		else \
			echo "Packages could not be installed: $$(grep -m1 -i error "$(VENV)/pip-errors.txt") (all of it: $(VENV)/pip-errors.txt)" >&2; \
		fi; \
		exit 1; \
	fi
	@touch "$@"

# Without PORT, JupyterLab takes 8888 or the next free one; a port you ask for is taken or refused.
lab: $(STAMP)
	@if [ -n "$(PORT)" ] && ! "$(BIN)/python" -c '$(IS_FREE)' "$(PORT)" 2>/dev/null; then \
		echo "Port $(PORT) is taken or not a port: choose another with make lab PORT=…, or leave PORT out." >&2; exit 1; \
	fi
	@"$(BIN)/jupyter" lab $(if $(PORT),--ServerApp.port=$(PORT) --ServerApp.port_retries=0) \
		$(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_OPTIONS) notebooks/00_start_here.ipynb

test: $(STAMP)
	@"$(BIN)/ruff" check .
	@OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest $(PYTEST_OPTIONS)

bench: $(STAMP)
	@"$(BIN)/python" -m benchmarks

twins: $(STAMP)
	@"$(BIN)/python" -m nnopt_lab twins --run

clean:
	@rm -rf "$(VENV)" build *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
