# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer is all they need.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-trackers test-faults test-faults-all fuzz mutants lint settings bench bench-image starter-continue starter-judge clean

VENV ?= .venv
BIN := $(VENV)/bin
# One process a core, each with one thread: many small tests gain more from that than from threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
# A Python that is new enough, that starts (a pyenv shim may not) and that can make an environment.
CHECK := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3 python
FIND_PYTHON = for p in $(PYTHON) $(CANDIDATES); do \
	if "$$p" -c '$(CHECK)' >/dev/null 2>&1; then echo "$$p"; exit 0; fi; done; exit 1

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(VENV)/.demo ## train and measure a speech and an image adapter; writes runs/demo/report.html
	@$(BIN)/python recipes/demo/demo.py $(if $(SPEECH),--general-speech $(SPEECH))

test: $(VENV)/.dev ## the default test suite, under 10 minutes on 2 cores
	@$(PYTEST) -m "not slow"

test-all: $(VENV)/.dev ## also the tests that take minutes each
	@$(PYTEST)

test-trackers: $(VENV)/.dev ## install W&B, MLflow and trackio into the environment, and test logging to them
	@$(BIN)/python -m pip install -q --disable-pip-version-check wandb mlflow-skinny trackio
	@HF_HUB_OFFLINE=1 $(PYTEST) -n 0 tests/training/test_real_trackers.py

# The tables of faults keep their cases in FILE.jsonl: a repeat goes on where the last one ended.
FAULTS := OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.table --seed $(or $(SEED),0)
test-faults: $(VENV)/.dev ## a sample of kills, full disks and damaged calls, of all commands; about 15 minutes
	@rm -f runs/faults/sample.txt.jsonl
	@$(FAULTS) --part sample --budget $(or $(BUDGET),900) --out runs/faults/sample.txt

test-faults-all: $(VENV)/.dev ## every fault at every call of each writer, 30 of each command; hours, goes on if repeated
	@$(FAULTS) --part all --budget $(or $(BUDGET),86400) --out runs/faults/all.txt

fuzz: $(VENV)/.dev ## mutated files for every parser, with planted bugs and branch coverage: make fuzz INPUTS=20000
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),5000) --seed $(or $(SEED),0)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --planted

mutants: $(VENV)/.dev ## how many small changes of the code the tests notice: make mutants N=400 MINUTES=60
	@$(NICELY) tools/mutation.py -n $(or $(N),400) --seed $(or $(SEED),0) $(if $(MINUTES),--minutes $(MINUTES))

settings: $(VENV)/.dev ## write docs/settings.md again, from the settings in the code
	@$(BIN)/python tools/settings_page.py

lint: $(VENV)/.dev ## formatting, ruff and mypy --strict
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# DATA and TEST are manifests or folders of real speech. The published figures are of speechocean762
# (OpenSLR SLR101, https://www.openslr.org/101/).
bench: $(VENV)/.dev ## against transformers' Seq2SeqTrainer with PEFT: make bench DATA=train.jsonl TEST=test.jsonl
	@$(BIN)/python benchmarks/speech_training.py $(if $(DATA),--data $(DATA)) $(if $(TEST),--test $(TEST))

bench-image: $(VENV)/.dev ## against diffusers' LoRA training, on shrunk SD 1.5 and SDXL and on the starter
	@$(BIN)/python benchmarks/image_training.py

# The next starter's training, beside other work: one thread, lowest priority, outside the tree.
MMTUNE_STARTER ?= $(HOME)/.cache/mmtune-starter
NICELY := OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python
starter-continue: $(VENV)/.dev ## start or resume the starter's training in the background; its log is in ~/.cache/mmtune-starter
	@$(NICELY) tools/starter/carry_on.py --work $(MMTUNE_STARTER) --threads $(or $(THREADS),1)

starter-judge: $(VENV)/.dev ## judge the starter as far as it is trained: a line in judge.tsv and a sheet
	@$(NICELY) tools/starter/judge.py --work $(MMTUNE_STARTER)

clean: ## the environment and build outputs; runs/ and the cache stay
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@python=$$($(FIND_PYTHON)) || { \
	  echo "mmtune needs Python 3.11 to 3.14 with its venv module, and none of these is one: $(PYTHON) $(CANDIDATES)" >&2; \
	  echo "  cure: install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	"$$python" -m venv $(VENV)

# The stamps: pip runs again only when pyproject.toml is newer. What `test` needs holds what `demo` needs.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV); this happens once and takes a few minutes"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo,espeak]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV); this happens once and takes a few minutes"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo,espeak,datasets,bench,export,test,dev]'
	@touch $@ $(VENV)/.demo
