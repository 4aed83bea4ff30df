# Everything runs in .venv, made here from constraints.txt; only Python 3.10+ is needed beforehand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Spinning OpenMP threads beside another job slow a step tenfold.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup demo test check bench soak clean

help:            ## show this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /'

setup: $(READY)  ## make the virtual environment

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo,report]' --group test
	touch $@

demo: $(READY)   ## train, kill, resume, choose and report, in about five minutes
	$(BIN)/holdfast demo $(DEMO)

test: export OMP_NUM_THREADS = 1
test: $(READY)   ## lint, types, layers and every test, in under ten minutes
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST)

check: $(READY)  ## lint, types and layers only
	$(BIN)/python -m pytest -q tests/project $(PYTEST)

bench: $(READY)  ## performance beside peers, as ratios from one run
	$(BIN)/python -m benchmarks $(BENCH)

soak: export OMP_NUM_THREADS = 1
soak: $(READY)   ## the unbounded versions of the crash, fault and damage suites
	$(BIN)/python -m pytest -n 2 -m soak $(PYTEST)

clean:           ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
