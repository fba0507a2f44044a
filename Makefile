# Two commands do everything: `make demo` and `make test`. Both make the environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test docs quality chaos mutations guides conformance ray versions clean

# torch comes first and by itself: named with its exact version, pip takes the build that is at hand
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/paretokd demo $(ARGS)

# two workers: a file of tests stays in one of them
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

docs: $(VENV)/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build $(ARGS)

quality: $(VENV)/installed
	$(BIN)/pip install -q -c constraints.txt ruff mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

chaos: $(VENV)/installed
	$(BIN)/python tests/chaos.py $(ARGS)

mutations: $(VENV)/installed
	$(BIN)/python tests/mutations.py $(ARGS)

guides:
	$(MAKE) $(VENV)-guides/installed VENV=$(VENV)-guides
	OMP_NUM_THREADS=1 $(VENV)-guides/bin/python tests/other_packages.py --folder $(VENV)-guides/work $(ARGS)

# needs npm and Chromium
conformance: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/conformance.py --folder $(VENV)-conformance $(ARGS)

ray:
	$(MAKE) $(VENV)-ray/installed VENV=$(VENV)-ray
	$(VENV)-ray/bin/pip install -q -c constraints.txt -e '.[ray]'
	$(VENV)-ray/bin/python tests/ray_check.py $(VENV)-ray/work $(ARGS)

versions: $(VENV)/installed
	$(BIN)/python tests/versions.py --folder $(VENV)-versions $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-versions $(VENV)-guides $(VENV)-conformance $(VENV)-ray build *.egg-info
