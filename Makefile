# Two commands do everything on a fresh machine: `make sweep` and `make test`. Only python >= 3.11 is needed.
# While working: `make check` (the fast tests) and `make lint`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Tests in this many processes; each keeps to its own files, ports and Ray. More than cores: whole sweeps often wait.
WORKERS  ?= 3
PARALLEL  = -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: install sweep check test test-slurm chaos coverage lint docs wheel clean

install: $(READY)

sweep: $(READY)
	$(BIN)/python sweeps/depth_sweep.py $(ARGS)

# The fast lane: at most about a second per test, no Ray, no servers, no browser.
check: WORKERS = 2
check: $(READY)
	$(BIN)/python -m pytest -m "not full and not slurm" $(PARALLEL) $(ARGS)

# Everything that needs no SLURM.
test: $(READY)
	$(BIN)/python -m pytest -m "not slurm" $(PARALLEL) $(ARGS)

coverage: $(READY)
	$(BIN)/python -m pytest -m "not slurm" $(PARALLEL) --cov --cov-report=term:skip-covered --cov-report=html $(ARGS)

# A real SLURM with four nodes on this machine (needs root on Debian 12): up, tests, down.
test-slurm: $(READY)
	cluster/lab/up.sh
	$(BIN)/python -m pytest tests/slurm $(ARGS); status=$$?; cluster/lab/down.sh; exit $$status

# Random faults against sweeps, and a verdict (docs/chaos.md): on the lab, or with WORLD=local on this machine.
WORLD ?= lab
chaos: $(READY)
	test $(WORLD) != lab || cluster/lab/up.sh
	$(BIN)/python -m tests.chaos --world $(WORLD) $(ARGS); status=$$?; \
	test $(WORLD) != lab || cluster/lab/down.sh; exit $$status

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site in build/site; a link that leads nowhere is an error.
docs: $(READY)
	$(BIN)/python -m docs.site

# Wheel and source archive in dist/; a description that a package index would refuse is an error.
wheel: $(READY)
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("python >= 3.11 is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) build
