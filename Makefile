# Two commands do all set-up: `make demo` and `make test`.
PYTHON ?= python3
SEED ?= 0
# Another seed is another demo.
OTHER := $(if $(filter-out 0,$(SEED)),-seed$(SEED))
DEMO ?= runs/demo$(OTHER)
CASCADE ?= runs/cascade$(OTHER)
VENV := .venv
PY := $(VENV)/bin/python
export JAX_PLATFORMS ?= cpu
# XLA takes a step's memory from malloc anew each time: huge pages spare page
# faults, a fifth of a training on CPU (experiments/huge_pages/).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo cascade test parity conformance soak lint

$(VENV)/.installed: requirements.txt setup.py
	@echo 'installing into $(VENV) (about 3 minutes on a fresh machine)'
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14) and f"error: Python 3.11-3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(VENV)/.installed
	@$(PY) -m experiments.first_minute.run --out=$(DEMO) --seed=$(SEED)

# Every network from nothing, on two cores within the hour.
cascade: $(VENV)/.installed
	@$(PY) -m experiments.tiny_cascade.run --out=$(CASCADE) --seed=$(SEED)

test: $(VENV)/.installed
	@$(PY) -m pytest -m 'not soak' -n 2 --dist loadfile

soak: $(VENV)/.installed
	@$(PY) -m pytest -m soak

lint: $(VENV)/.installed
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports

# PyTorch twins live in an environment of their own: tests need only fixtures.
$(VENV)-parity/.installed: experiments/parity/requirements.txt experiments/parity/requirements-measures.txt
	@test -x $(VENV)-parity/bin/python || $(PYTHON) -m venv $(VENV)-parity
	@$(VENV)-parity/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(VENV)-parity/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@$(VENV)-parity/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r experiments/parity/requirements-measures.txt
	@touch $@

parity: $(VENV)/.installed $(VENV)-parity/.installed
	@$(VENV)-parity/bin/python experiments/parity/run.py
	@$(PY) -m pytest -k parity --junitxml=runs/parity.xml
	@$(PY) experiments/parity/table.py runs/parity.xml

# Every number of the papers beside ours: docs/paper_conformance.md.
conformance: $(VENV)/.installed
	@PYTHONPATH=tests $(PY) -m paper.page
