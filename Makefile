# Every target sets up what it needs. On a fresh machine with Python 3.11 or later, make and git: make demo
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEBIAN := fonts-noto-color-emoji unicode-cldr-core
CODE := src tests workshop benchmarks examples docs

.PHONY: help install demo test test-all check fix docs emoji-base debian
.DEFAULT_GOAL := help

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(READY)  ## make .venv with everything

# Some Debians ship python3 without ensurepip; there venv fails and leaves half a folder.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq python3-venv && \
	  $(PYTHON) -m venv .venv; } || { echo "Please install Python's venv, such as the Debian package python3-venv"; exit 1; }

$(READY): pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@

demo: install  ## teach a word and draw it
	$(BIN)/neologism demo

test: install  ## the tests that need no patience and no GPU
	-@$(MAKE) -s debian  # without them the tests of the workshop are skipped
	$(BIN)/python -m pytest -q

test-all: install  ## the slow ones too, and those for a GPU where there is one
	$(BIN)/python -m pytest -q -m "not browser"

check: install  ## what CI runs: style, types, tests
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/pyright
	$(BIN)/python -m pytest -q

fix: install  ## mend what ruff can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

docs: install  ## write docs/recipe.md from the settings' own texts
	$(BIN)/python docs/build.py

# The font and the names of its emoji: needed only to make the base anew. Tests of the workshop are skipped without them.
debian:
	@if dpkg -s $(DEBIAN) >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq $(DEBIAN); \
	else echo "Please install the Debian packages: $(DEBIAN)"; exit 1; fi

emoji-base: install debian  ## make the base that ships anew (hours; may be stopped and taken up again)
	$(BIN)/python -m workshop.emoji.autoencoder
	$(BIN)/python -m workshop.emoji.denoiser
	$(BIN)/python -m workshop.emoji.assemble
	$(BIN)/python -m workshop.emoji.judge
	$(BIN)/python -m workshop.emoji.examples
	$(BIN)/python -m workshop.emoji.measure
	$(BIN)/python -m workshop.emoji.assemble --card
