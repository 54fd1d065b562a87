# Everything is installed into .venv; constraints.txt pins every version.
PYTHON ?= python3
VENV := .venv
comma := ,
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
# What `make setup` installs beside the project; add train for PyTorch.
EXTRAS ?= dev,s3,dask
# Stamps of what is installed in .venv.
RUNTIME := $(VENV)/.runtime
INSTALLED := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-slow check bench fuzz golden params docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED) ## create .venv and install the project with what development needs

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(INSTALLED) $(RUNTIME)

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $(RUNTIME)

repro: $(RUNTIME) ## build the datasets (the embedded sample until params.yaml names your recordings)
	dvc repro fsl
	@owa-data summary
	@owa-data show data/fsl 0

test: setup ## run the tests
	python -m pytest -q -m "not slow"

test-slow: setup ## run all tests that this machine can run
	python -m pytest -q --numprocesses 2 --dist worksteal

check: setup ## format, lint, types
	ruff format --check .
	ruff check .
	mypy
	python -m owa_data.params_text --check

fuzz: setup ## break thousands of recordings and see that no whole chunk is lost
	python -m tests.fuzz --files 5000

bench: setup ## measure; writes benchmarks/results.json
	python -m benchmarks.run

golden: setup ## write golden files anew; look at the diff before you commit it
	python -m tests.golden.regenerate

params: setup ## bring params.yaml's comments and docs/params.md in line with owa_data/params.py
	python -m owa_data.params_text

lock: ## resolve all dependencies anew into constraints.txt
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lock/bin/python -m pip install --quiet torch==2.13.0 --editable '.[dev,s3,dask,train]'
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed -e '/^pip=/d' -e 's/+cpu$$//' > constraints.txt
	rm -rf $(VENV)-lock

clean: ## remove the environment and everything that can be built again, but not the DVC cache
	rm -rf $(VENV) data/event data/fsl data/binned data/episodes.jsonl .hydra_multirun
