VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Every install takes the tested versions; torch first, so that no other package picks another one.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO := demo

.DEFAULT_GOAL := help
.PHONY: help demo test quick test-lowest lint docs docs-check pictures check bench bench-gpu graph chaos clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e '.[finetune]'
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.test

demo: $(VENV)/.demo  ## synthesise machines, extract, index, score, report: the main job in two minutes
	$(BIN)/python -m extractors.demo.run --to $(DEMO)/data
	$(BIN)/python -m extractors.run --data $(DEMO)/data/dev_data $(DEMO)/data/eval_data \
		--cache-dir $(DEMO)/artifacts
	$(BIN)/python -m index.run --backbone logspec --cache-dir $(DEMO)/artifacts
	$(BIN)/python -m eval.run --backbone logspec \
		--cache-dir $(DEMO)/artifacts --ground-truth $(DEMO)/data/ground_truth --out $(DEMO)/results \
		--audio $(DEMO)/data/dev_data $(DEMO)/data/eval_data

# Files whole to one process, the longest first; each process computes with one thread. Three for two cores: some tests wait.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

test: $(VENV)/.test  ## run the tests
	$(PYTEST)

quick: $(VENV)/.test  ## run the tests but those that take long: kills, clusters, fleets
	$(PYTEST) -m "not slow"

LOWEST := $(VENV)-lowest
test-lowest:  ## run the tests with the lowest versions that pyproject.toml allows, in an environment of its own
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check packaging
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e '.[test]'
	$(subst $(BIN),$(LOWEST)/bin,$(PYTEST))

lint: $(VENV)/.dev  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npx --yes @biomejs/biome@2.6.8 check --error-on-warnings

SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

docs: $(VENV)/.dev  ## show the documentation as a site on this machine, http://127.0.0.1:8000
	$(SITE) serve

docs-check: $(VENV)/.dev
	$(SITE) build --quiet --strict --site-dir build/site

pictures: demo docs-check  ## draw the pictures of the documentation anew, in an installed Chromium
	$(BIN)/python -m docs.pictures $(DEMO) build/site

check: lint docs-check test  ## everything that must pass before a commit

bench: $(VENV)/.dev  ## measure against the peers in one run, CLONES=DIR with those of encoders; writes nothing
	$(BIN)/python -m benchmarks.table $(if $(CLONES),--clones $(CLONES))

bench-gpu: $(VENV)/.dev  ## measure on a GPU; says so where there is none
	$(BIN)/python -m benchmarks.gpu

PACKAGES := cache extractors finetune index eval

graph: $(VENV)/.dev  ## draw the imports of each package into docs/graph, with Graphviz
	@for package in $(PACKAGES); do \
		$(BIN)/import-linter drawgraph $$package | dot -Tsvg -o docs/graph/$$package.svg || exit 1; done

chaos: $(VENV)/.test  ## damage files, kill and starve runs, at random; five minutes
	$(BIN)/python -m benchmarks.chaos

clean:  ## remove the environment and the demo
	rm -rf $(VENV) $(LOWEST) $(DEMO)
