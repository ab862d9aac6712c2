# Everything that a user or a developer runs. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# For tests that mostly wait for other processes: two files at a time. A crashed worker ends the run: pytest-xdist can wait
# for ever for the one that it starts in its place.
PARALLEL := --numprocesses 2 --dist loadfile --max-worker-restart 0

.DEFAULT_GOAL := help
# Where bytecode is not kept, each of the hundreds of programs that the tests start compiles all that it imports: mlflow
# then takes 11 s of processor time instead of 3.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: python-3.12 help setup setup-tensorrt setup-triton requirements docs demo test lint unit integration processes behaviour mutants mutants-sample coverage bench papers serve images sbom licences audit test-cluster clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.complete  ## the virtual environment .venv from requirements/dev.txt

.venv/.complete: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and "echoplane needs Python 3.11 or 3.12; this is %d.%d. Give another: make PYTHON=/path/to/python3.11" % v)'
	@echo "setup: .venv will take 7.5 GB of disk; downloading takes minutes on a slow line"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

setup-tensorrt: build/tensorrt/.complete  ## TensorRT in an environment of its own, with which tests build every export (90 MB)

build/tensorrt/.complete: requirements/tensorrt.txt .venv/.complete
	$(BIN)/python -m venv build/tensorrt
	$(BIN)/uv pip install --quiet --python build/tensorrt/bin/python --no-deps --require-hashes -r requirements/tensorrt.txt
	@touch $@

setup-triton: build/triton/.complete  ## a Triton server in an environment of its own, for tests (390 MB, needs Python 3.10)

build/triton/.complete: requirements/pytriton.txt .venv/.complete
	$(BIN)/uv venv --quiet --clear --python 3.10 build/triton
	$(BIN)/uv pip install --quiet --python build/triton/bin/python --no-deps --require-hashes -r requirements/pytriton.txt
	@touch $@

demo: setup  ## the main job, end to end; writes build/demo/report.html and report.json
	@$(BIN)/python -m demo

test: setup lint unit processes  ## lint, types, unit, integration, behaviour

lint: setup  ## style, types and dependencies between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

unit: setup  ## tests of functions and packages
	@$(MAKE) --no-print-directory -j2 --output-sync=line unit-half-0 unit-half-1

# Two processes, each with every second module: a crash of one ends it with its stack, and costs the other nothing.
unit-half-%:
	$(PYTEST) $$(ls tests/unit/test_*.py | awk 'NR % 2 == $*')

integration: setup  ## tests with real Ray, MLflow and Kubeflow components
	$(PYTEST) tests/integration $(PARALLEL) --timeout 1200

# Each training of a test has a thread per core. By default they wait for each other actively: beside a second test, 12 steps
# then took 12 s of processor time instead of 4.
unit-half-% processes integration behaviour mutants mutants-sample coverage: export OMP_WAIT_POLICY := PASSIVE

# One run of both: at the end of each, a long file keeps one core busy and the other idle.
processes: setup  ## integration and behaviour
	$(PYTEST) tests/integration tests/behaviour $(PARALLEL) --timeout 1200

behaviour: setup  ## tests of the service and the demo as a user meets them
	$(PYTEST) tests/behaviour $(PARALLEL)

mutants: setup  ## breaks the code in listed ways and sees each test fail
	@$(BIN)/python -m tests.mutants

mutants-sample: setup  ## five minutes of mutants, other ones for each commit
	@$(BIN)/python -m tests.mutants --sample 280

coverage: setup  ## share of lines that unit tests run, by package
	$(BIN)/coverage run -m pytest tests/unit
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o build/coverage.json
	@$(BIN)/python -m benchmarks.coverage build/coverage.json

bench: setup  ## measure the figures of docs/results.md again, but for papers and cluster
	@$(BIN)/python -m benchmarks

python-3.12: setup  ## show that the pinned requirements resolve for Python 3.12 too
	bash requirements/check 3.12

requirements: setup  ## pin what requirements/*.in ask for, each archive with its digest
	bash requirements/compile

docs: setup  ## write the reference pages in docs/reference from the code
	$(BIN)/python docs/reference/generate.py

papers: setup  ## train the shipped networks again and test that of cine MR (hours; goes on where it was stopped)
	@$(BIN)/python -m benchmarks.cmr_training --final
	@$(BIN)/python -m benchmarks.cmr_training --adapt build/papers/cmr/candidate
	@for seed in 0 1 2; do $(BIN)/python -m benchmarks.views_training train --seed $$seed || exit 1; done
	@$(BIN)/python -m benchmarks.views_video train

serve: setup  ## the service on 127.0.0.1:3000 with the demo's champion
	@$(BIN)/python -m demo serve

images:  ## container images by docker, or by BUILDER; IMAGE_REGISTRY goes before their names
	@bash infra/images/build

sbom:  ## what each image holds, as build/sbom/*.spdx.json; after `make images`
	@bash infra/images/build --sbom

licences: setup  ## licence of every package in the images; fails on one that is not permissive or not clear
	@$(BIN)/python -m infra.licences

audit: setup  ## known weaknesses of the images' packages: make audit FILE=OSV-DATABASE
	@$(BIN)/python -m infra.audit $(FILE)

test-cluster: setup  ## images, chart and pipelines on the Kubernetes of $$KUBECONFIG
	$(PYTEST) tests/cluster --timeout 3000

clean:  ## remove what was built; .venv stays
	rm -rf build
