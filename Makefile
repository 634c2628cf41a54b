PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Without bytecode, each process that a test starts would compile what it imports: 8 s in place of 3.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo compositional-round espresso-round test test-runners docs lint format

install: $(STAMP)

# The stamp keeps an unchanged installation from being repeated. Python compiles what it imports, pip would compile all.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	rm -rf demo-store
	$(BIN)/gnome init demo-store --snapshot embedded --config examples/demo.toml
	$(BIN)/gnome round run demo-store --rounds 2

# Compositions searched with random structures, on the embedded evaluator.
compositional-round: $(STAMP)
	rm -rf compositional-store
	$(BIN)/gnome init compositional-store --config examples/compositional.toml
	$(BIN)/gnome round run compositional-store

# A round computed by Quantum ESPRESSO; needs pw.x (Debian: apt-get install quantum-espresso).
espresso-round: $(STAMP)
	rm -rf espresso-store
	$(BIN)/gnome dft setup-espresso
	$(BIN)/gnome init espresso-store --config examples/espresso.toml
	$(BIN)/gnome round run espresso-store

test: lint
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# What `gnome runners` calls missing is skipped, and the skip says what gets it.
test-runners: $(STAMP)
	$(BIN)/pytest -m runners -rs --durations=0 tests/pipelines/beam/test_engines.py

# The site, in site/. Whatever would be a warning ends it: links and anchors that lead nowhere, pages outside the navigation.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
