# On a fresh machine with Python 3.11 to 3.14, each of these is the only command needed:
#   make book     the book in _build/html
#   make test     every test, and every notebook run anew and compared with what it shows;
#                 ONLY=presence (a room), ONLY=reproduce/presence (its paper), ONLY=2 (a chapter) or
#                 ONLY=2.3 (an equation) limits it
# With another interpreter: make test PYTHON=/path/to/python3.12; with the newest versions instead of
# the locked ones: NEWEST=1. Both act only when .venv is made: remove .venv first.
.DEFAULT_GOAL := help
.PHONY: help book pdf slides handouts bank assignments lab test slow notebooks lint lock readme clean

# Containers often set it, and then each process compiles torch anew, which takes 20 seconds.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
READY := .venv/.ready
JOBS ?= 2
NOTEBOOKS ?= notebooks
# Which questions: make handouts ROSTER=students.csv CLASS=autumn-2026 CHAPTERS="0 1" LEVELS=exam NUMBER=6
CHOICE = $(if $(CLASS),--group "$(CLASS)") $(if $(CHAPTERS),--chapters $(CHAPTERS)) \
    $(if $(LEVELS),--levels $(LEVELS)) $(if $(NUMBER),--number $(NUMBER))
# One thread a process: on a small machine, threads of several workers stand in each other's way.
QUIET := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=agg PYTHONHASHSEED=0 TQDM_DISABLE=1

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

book: $(READY)  ## build the book; warnings are errors
	@$(BIN)/python scripts/book_sources.py $(BIN)/jupyter-book build . -n -W --keep-going
	@echo "Open     file://$(CURDIR)/_build/html/index.html"
	@echo "or serve $(BIN)/python -m http.server --directory _build/html    (the demos need this)"

handouts: $(READY)  ## ROSTER=students.csv: a sheet and a key for each student of a class
	@test -n "$(ROSTER)" || { echo "Name the roster: make handouts ROSTER=students.csv" >&2; exit 1; }
	$(BIN)/python scripts/handouts.py "$(ROSTER)" $(CHOICE)

bank: $(READY)  ## the question bank for Moodle and for Canvas, VARIANTS=5 of each question
	$(BIN)/python scripts/bank.py $(if $(VARIANTS),--variants $(VARIANTS)) $(CHOICE)

assignments: $(READY)  ## the exercises of each chapter as an assignment for nbgrader
	$(BIN)/python scripts/assignments.py

slides: $(READY)  ## slides for each chapter, each also as PDF, and all equations as LaTeX
	$(BIN)/python scripts/teaching.py --pdf

pdf: book  ## the whole book as _build/book.pdf; needs Chromium
	$(BIN)/python scripts/pdf.py

lab: $(READY)  ## open the chapters in JupyterLab, which it installs the first time
	@test -x $(BIN)/jupyter-lab || $(BIN)/uv pip install --quiet --python $(BIN)/python jupyterlab
	$(BIN)/jupyter-lab --notebook-dir notebooks

test: $(READY)  ## run all tests and all notebooks; ONLY=presence: those of one room
	@what="$(if $(ONLY),$$($(BIN)/python scripts/only.py $(ONLY)),tests $(NOTEBOOKS))" && set -x && \
	$(QUIET) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations 10 \
	    --nbval --nbval-sanitize-with tests/nbval.cfg $$what

slow: $(READY)  ## the tests that take longest; with Ray, those on a cluster of two nodes too
	$(QUIET) $(BIN)/python -m pytest -m slow -rs --durations 10 tests

notebooks: $(READY)  ## execute every notebooks/NN_*.py into its .ipynb
	$(BIN)/python scripts/notebooks.py

lint: $(READY)  ## style, spelling, types, and whether the notebook pairs agree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python scripts/notebooks.py --check

readme: $(READY)  ## rewrite the state of the reproductions in README.md from the records
	$(BIN)/python scripts/readme.py

lock: $(READY)  ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --upgrade --generate-hashes --no-header \
	    --no-annotate --extra book --extra test pyproject.toml -o requirements.lock

clean:  ## remove what was built, but not the environment
	rm -rf _build build dist .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml scripts/environment.sh
	@PYTHON="$(PYTHON)" NEWEST="$(NEWEST)" bash scripts/environment.sh
	@touch $@
