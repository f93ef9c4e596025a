# The book, its library and their tests. `make` alone lists what there is to do.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

# Which versions: as recorded in constraints.txt; the oldest that pyproject.toml allows; the newest that it allows.
DEPENDENCIES ?= recorded
ifeq ($(filter $(DEPENDENCIES),recorded oldest newest),)
  $(error DEPENDENCIES is recorded, oldest or newest, not "$(DEPENDENCIES)")
endif
CHOICE_recorded := --constraint constraints.txt
CHOICE_oldest   := --constraint $(VENV)/oldest.txt
CHOICE_newest   := --upgrade --upgrade-strategy eager
STAMP := $(VENV)/.installed$(patsubst %,-%,$(filter-out recorded,$(DEPENDENCIES)))

# Two test processes of two threads each on two cores run many times slower than of one thread each.
QUIET  := IDM_TIER=tiny TQDM_DISABLE=1 HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore TOKENIZERS_PARALLELISM=false
ONE    := OMP_NUM_THREADS=1

.PHONY: help install book html test lint unit notebooks lab bench clean distclean notebook notebook-source rerun dist links readme

help:  ## list the commands
	@echo "A Tenth of the Numbers: the book and the library"
	@echo
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

install: $(STAMP)  ## create .venv and install everything (the others do it when needed) [DEPENDENCIES=oldest|newest]

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Could not create $(VENV); on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python .ci/oldest.py > $(VENV)/oldest.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(CHOICE_$(DEPENDENCIES)) \
	  --editable ".[book,test,train]"
	@rm -f $(VENV)/.installed*
	@touch $@

book: $(STAMP)  ## execute every chapter afresh and build _build/html
	@$(BIN)/python book/_scripts/build.py --fresh --jobs $(JOBS)

html: $(STAMP)  ## build _build/html from the committed outputs
	@$(BIN)/python book/_scripts/build.py

test: lint unit notebooks  ## everything: ruff, unit tests, all notebooks, the built pages in a browser

lint: $(STAMP)  ## ruff alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(STAMP)  ## unit tests and the tests of the built pages
	$(ONE) $(QUIET) $(BIN)/python -m pytest tests -q -n $(JOBS) --dist loadscope

notebooks: $(STAMP)  ## re-run every committed notebook and compare
	$(ONE) $(QUIET) $(BIN)/python -m pytest notebooks -q --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
	  -n $(JOBS) --dist loadscope

lab: $(STAMP)  ## open the chapters in JupyterLab
	$(BIN)/jupyter lab notebooks

bench: $(STAMP)  ## run the benchmarks and record results/*.json
	$(BIN)/python -m benchmarks

notebook: $(STAMP)  ## one chapter: NAME=01_measuring [FROM=scratch.md] [TIER=full]
	@test -n "$(NAME)" || { echo "Say which: make notebook NAME=01_measuring"; exit 2; }
	@$(BIN)/python book/_scripts/chapter.py $(NAME) $(if $(FROM),--from $(FROM)) $(if $(TIER),--tier $(TIER))

notebook-source: $(STAMP)  ## print a chapter as a scratch file: NAME=01_measuring
	@$(BIN)/python book/_scripts/chapter.py $(NAME) --source

rerun: $(STAMP)  ## execute every chapter again and commit them [RECORD=1 repeats the benchmarks first]
	@$(BIN)/python book/_scripts/rerun.py $(if $(RECORD),--record)

dist: $(STAMP)  ## sdist and wheel in dist/, checked, and the wheel tried out offline
	@$(BIN)/python .ci/dist.py

links: $(STAMP)  ## ask every server that the book links to whether the page is still there (needs a network)
	@$(BIN)/python book/_scripts/links.py

readme: $(STAMP)  ## bring the README's table of chapters up to date
	@$(BIN)/python book/_scripts/readme.py

clean:  ## remove what was built
	rm -rf _build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## remove the virtual environment too
	rm -rf $(VENV)
