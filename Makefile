# Two commands on a fresh machine: `make demo` runs the main job on the embedded models, `make test` runs the tests.
# Each makes its own virtual environment in .venv; the second time they start at once.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet

.PHONY: demo test test-fast test-oldest lint format docs notebooks clean

demo: $(VENV)/.installed
	$(RUN) -m robustness.run

# One test process per core, of one thread each: more threads than cores spend their time waiting for each other.
test: $(VENV)/.installed-development
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto

# The tests of files that take some seconds at most: a minute on two cores.
test-fast: $(VENV)/.installed-development
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto -m "not long"

# The oldest versions that pyproject.toml admits, in an environment of their own; uv can solve for those.
test-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip --disable-pip-version-check --quiet install uv
	$(VENV)-oldest/bin/uv pip install --python $(VENV)-oldest/bin/python --resolution lowest-direct --editable '.[test]'
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest --numprocesses auto

lint: $(VENV)/.installed-development
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-development
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The site, into build/site/docs/index.html. A broken link or anchor, a page without a place in the navigation, and a file
# that would be loaded from another host stop it.
docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --conf-dir docs . build/site
	! grep -rEl '<(script|img|link|iframe)[^>]*(src|href)="(https?:)?//' build/site --include='*.html'

# Execute the notebooks and store their outputs in them, after a change that moves what they show.
notebooks: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 $(RUN) tests/notebooks.py

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

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist *.egg-info
