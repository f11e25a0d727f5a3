# Everything runs from a fresh clone: each target makes its own environment first.
DEFAULT_PYTHON := python3.11
PYTHON ?= $(DEFAULT_PYTHON)
# Another interpreter has an environment of its own: `make test PYTHON=python3.13` leaves .venv as it is.
SUFFIX := $(if $(filter $(DEFAULT_PYTHON),$(notdir $(PYTHON))),,-$(notdir $(PYTHON)))
VENV := .venv$(SUFFIX)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Processes of the tests, and experiments side by side.
WORKERS ?= 2
PARALLEL := $(if $(filter-out 0 1,$(WORKERS)),-n $(WORKERS) --dist loadscope)
# One thread on purpose: the arrays of the demo and the tests are small, and threads that wait for each other cost more than they
# bring (measured: as fast with one on two idle cores, sixteen times slower with two on busy ones).
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
MIRROR ?= $(if $(NEUROBRIDGE_MIRROR),$(NEUROBRIDGE_MIRROR),$(wildcard ../shared/data))

# Brain-Score pins old versions whose own deprecations are not ours to mend.
OLD := -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning

.PHONY: demo test checks lint types walls unit fuzz test-brainscore test-newest experiments docs linkcheck package clean

demo: $(READY)
	$(BIN)/neurobridge demo --out results/demo

# The checks of the code run beside the tests: they use one core for a minute.
test: $(READY)
	$(MAKE) --no-print-directory -j 2 checks unit

checks: lint types walls

lint: $(READY)
	$(BIN)/ruff check neurobridge tests analyses conftest.py
	$(BIN)/ruff format --check neurobridge tests analyses conftest.py

types: $(READY)
	$(BIN)/mypy

walls: $(READY)
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) $(if $(MIRROR),--mirror=$(MIRROR)) $(PYTEST_ARGS)

# Drawn inputs at every public entrance: refused with an error of ours, or right. SECONDS_OF_FUZZ=600 SEED_OF_FUZZ=7 for more.
SECONDS_OF_FUZZ ?= 60
SEED_OF_FUZZ ?= 0
fuzz: $(READY)
	rm -rf results/fuzz
	$(BIN)/python -m pytest tests/fuzz -m fuzz $(PARALLEL:loadscope=load) --fuzz-seconds $(SECONDS_OF_FUZZ) --fuzz-seed $(SEED_OF_FUZZ) \
		--fuzz-counts results/fuzz $(PYTEST_ARGS)

# Every experiment in its small version; those whose data are not at hand are skipped, and said to be.
experiments: $(READY)
	$(BIN)/neurobridge run --all --quick --fresh --jobs $(WORKERS) $(if $(MIRROR),--mirror $(MIRROR))

# The site, in build/docs: every code block of the pages, every tutorial and every script of the gallery is run, and warnings are
# errors. A script whose text has not changed since the last build is not run again; `make docs FRESH=1` runs all. Scripts that read
# real data are run where the data are at hand (MIRROR, or the cache) and shown without output where not, which is printed.
SPHINX := $(if $(MIRROR),NEUROBRIDGE_MIRROR=$(abspath $(MIRROR))) WORKERS=$(WORKERS) $(BIN)/python -m sphinx
docs: $(VENV)/.docs-ready
	$(if $(FRESH),rm -rf docs/api docs/auto_tutorials docs/auto_gallery docs/auto_notebooks build/docs)
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_code_blocks.py -m 'slow or not slow' $(if $(MIRROR),--mirror=$(MIRROR))
	$(SPHINX) -b html -W --keep-going -q docs build/docs

# Links to other sites, followed by hand where there is a network.
linkcheck: $(VENV)/.docs-ready
	$(SPHINX) -b linkcheck -D plot_gallery=0 -q docs build/linkcheck

$(VENV)/.docs-ready: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

# Wheel and source distribution, and what an index would say of them.
package: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[release]'
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

# The rooms whose results depend on numpy, pandas, xarray or scikit-learn (marker two_stacks, tests/conftest.py) on Brain-Score's
# pinned stack, with the real brainscore-core and brainscore-vision. `make test-brainscore STACK=` runs the whole package there.
STACK ?= -m "two_stacks and not slow and not gpu"
test-brainscore: .venv-brainscore/.ready
	.venv-brainscore/bin/python -m pytest tests $(PARALLEL) $(OLD) $(STACK) $(if $(MIRROR),--mirror=$(MIRROR)) $(PYTEST_ARGS)

# The newest releases of everything, without constraints.txt.
test-newest: .venv-newest/.ready
	.venv-newest/bin/python -m pytest $(PARALLEL) $(if $(MIRROR),--mirror=$(MIRROR)) $(PYTEST_ARGS)

.venv-newest/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade -e '.[test]'
	touch $@

# One command, the one docs/brainscore.md gives, and the tests' packages.
# No zarr: xarray 2022 cannot write with zarr 3, so those tests are skipped.
.venv-brainscore/.ready: pyproject.toml constraints-brainscore.txt
	$(if $(SUFFIX),$(DEFAULT_PYTHON),$(PYTHON)) -m venv .venv-brainscore
	.venv-brainscore/bin/python -m pip install --quiet -c constraints-brainscore.txt -e '.[brainscore,distributed,ann]' \
		pytest pytest-timeout pytest-xdist hypothesis build hatchling
	touch $@

# torch first and pinned: a later resolution could otherwise pull a build many times larger.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-* results build dist docs/api docs/auto_*
