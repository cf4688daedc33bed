# `make help` lists the targets. Everything runs from .venv, which `make setup` builds from the lock.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
# A stage's `python` must be the one of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help setup demo test test-all lint format repro remote web release wheel bench bench-realtime bench-web report sample lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.complete ## build .venv from the locks

.venv/.complete: requirements.txt requirements-cluster.txt requirements-dev.txt
	@command -v $(PYTHON) > /dev/null || { echo "error: $(PYTHON) not found. Install Python 3.11, or name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: $(PYTHON) is not Python 3.11, for which the lock is made."; exit 1; }
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: Python's venv module is missing. On Debian: apt-get install python3.11-venv"; exit 1; }
	.venv/bin/pip install --quiet --disable-pip-version-check $(addprefix -r ,$^)
	@python -c 'import cv2' || { echo "error: OpenCV cannot load a system library. On Debian: apt-get install libgl1 libglib2.0-0"; exit 1; }
	@touch $@

demo: setup ## run the whole pipeline on the bundled sample, results in build/demo
	@python -m tools.demo

test: setup ## prove the product: about 4 minutes on 2 idle cores
	@python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: test ## and what is slow: kills, pushes, windows, determinism, full disks, real queues
	@python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m slow

lint: setup ## check style, formatting and types
	@ruff check . && ruff format --check . && mypy

format: setup ## format the code
	@ruff check --fix-only --quiet . && ruff format .

repro: setup ## run the pipeline on your own data in data/raw/full
	@python -m src.datasets.download --check
	@dvc repro

remote: setup ## set up or check the Google Drive remote: make remote FOLDER='ADDRESS' ARGS="--client-file FILE"
	@python -m src.remote $${FOLDER:+--folder "$$FOLDER"} $(subst &,\&,$(ARGS))

web: setup ## the page and its API on http://127.0.0.1:8000: make web ARGS="--port 8001"
	@python -m src.web $(ARGS)

release: setup ## copy the current model and its card to pretrained/
	@python -m tools.release

wheel: setup ## recognition, live program and released model as a wheel for pip: build/wheel
	@python -m tools.wheel

bench: setup ## measure the data stages against the obvious ways: make bench ARGS="csv crop"
	@python -m tools.benchmarks.bench_data $(ARGS)

bench-realtime: setup ## measure the real-time program beside `fer`: make bench-realtime ARGS="--video clip.mp4"
	@python -m tools.benchmarks.bench_realtime $(ARGS)

bench-web: setup ## live visitors of the page: make bench-web ARGS="--visitors 4 --seconds 60"
	@python -m tools.benchmarks.bench_web $(ARGS)

report: setup ## one page of results, changes, data, plots: build/report.html; make report ARGS="--against HEAD~1"
	@python -m src.report $(ARGS)

sample: setup ## draw the bundled sample again
	@python -m tools.drawn_faces data/raw/sample

lock: setup ## bring the locks up to requirements*.in; pins that still fit stay
	@pip install --quiet uv
	@for name in requirements{,-runtime,-web,-cluster,-dev}; do \
		uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command 'make lock' $$name.in -o $$name.txt; \
	done

clean: ## remove .venv and build/
	@rm -rf .venv build
