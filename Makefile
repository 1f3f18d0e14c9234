# Two commands on a fresh machine: `make demo` runs the main job on the embedded models, `make test` runs the tests.
# Each makes its own virtual environment in .venv; the second time they start at once.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet

.PHONY: demo test lint format clean

demo: $(VENV)/.installed
	$(RUN) -m robustness.run

test: $(VENV)/.installed-development
	$(RUN) -m pytest

lint: $(VENV)/.installed-development
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-development
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; say which with: make demo PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing into $(VENV) (PyTorch is large: a few minutes the first time)"
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-development: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
