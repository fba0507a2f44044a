# Two commands do everything: `make demo` and `make test`. Both make the environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test chaos quality clean

# torch comes first and by itself: named with its exact version, pip takes the build that is at hand
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/paretokd demo $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(ARGS)

chaos: $(VENV)/installed
	$(BIN)/python tests/chaos.py $(ARGS)

quality: $(VENV)/installed
	$(BIN)/pip install -q ruff
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info
