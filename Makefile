# Everything that is done with this repository; `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Recipes share two cores and one virtual environment; what can run side by side does so itself.
.NOTPARALLEL:

# uv: the caller's choice, else the one on PATH, else the one that `make setup` puts into .tools.
export UV := $(or $(UV),$(shell command -v uv),$(CURDIR)/.tools/uv/bin/uv)
# Python is the machine's own; uv must neither download one nor ask.
export UV_PYTHON_DOWNLOADS := never
# The official ONNX Runtime wheels send telemetry unless this is set before they are imported.
export ORT_DISABLE_TELEMETRY := 1
# pyright ships inside its package; its wrapper must not look for a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Container images often set this. Then each of the thousands of processes that tests and
# measurements start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

RUN := $(UV) run --frozen --quiet
PYTEST := $(RUN) pytest

##@ Use it

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## Check this machine, and install the Python tools into .venv
	@dev/setup

.PHONY: setup-node
setup-node:
	@dev/setup node

.PHONY: setup-clock
setup-clock:
	@dev/setup clock

.PHONY: setup-unit
setup-unit:
	@dev/setup unit

.PHONY: demo
demo: setup-node ## Serve a model on a real cluster on this machine, and roll out a new digest under load
	@$(RUN) python -m slipway_dev.demo up

.PHONY: demo-down
demo-down: setup-node ## Remove the demo's cluster and everything that belongs to it
	@$(RUN) python -m slipway_dev.demo down

##@ Test it

.PHONY: test
test: setup-node ## All checks and tests; tells the time of each stage
	@dev/stages

# Most of their time is processes that start.
UNIT_WORKERS ?= 2

.PHONY: test-unit
test-unit: setup-unit ## Tests without a cluster, side by side
	@$(PYTEST) --numprocesses=$(UNIT_WORKERS) --dist=loadfile --no-loadscope-reorder tests/unit

# Each worker has a control plane of its own; more than cores, since half of their time is waiting.
CONTROLPLANE_WORKERS ?= 4

.PHONY: test-controlplane
test-controlplane: setup-clock ## Tests of the operator against real API servers, side by side
	@$(PYTEST) --numprocesses=$(CONTROLPLANE_WORKERS) --dist=loadfile tests/controlplane

.PHONY: test-packaging
test-packaging: setup ## Tests of the slipway command with a real S3 server and PyTorch
	@$(PYTEST) tests/packaging

.PHONY: test-e2e
test-e2e: setup-node ## Tests on a real node with the real images (needs root)
	@$(PYTEST) tests/e2e

.PHONY: test-gpu
test-gpu: setup ## Tests of the runtime on a GPU; says so and fails where there is none
	@PYTHONPATH=tests/support $(RUN) python bench/gpu.py check

.PHONY: bench-gpu
bench-gpu: setup ## Measure the runtime on a GPU beside the CPU
	@PYTHONPATH=tests/support $(RUN) python bench/gpu.py bench

.PHONY: bench
bench: bench-goodput bench-grpc bench-push bench-batching bench-steady bench-raw-session bench-workers bench-int8 bench-fetch bench-large bench-sources bench-controlplane bench-serving ## Measure what the README promises, short ones first; an hour and a half

.PHONY: need-wrk
need-wrk:
	@command -v wrk >/dev/null || { echo "wrk is missing: apt-get install wrk" >&2; exit 1; }

.PHONY: bench-controlplane
bench-controlplane: setup ## Measure the operator on a control plane
	@PYTHONPATH=tests/support $(RUN) python bench/control_plane.py

.PHONY: bench-scale
bench-scale: setup ## Measure the operator with 1,000 and 5,000 models; half an hour
	@PYTHONPATH=tests/support $(RUN) python bench/scale.py

.PHONY: soak
soak: setup ## Random life with faults for MINUTES (60), judged from outside
	@PYTHONPATH=tests/support $(RUN) python bench/soak.py --minutes $(or $(MINUTES),60)

.PHONY: fuzz
fuzz: setup ## Feed the runtime's decoders nonsense for MINUTES (5), ever new; counts the cases
	@PYTHONPATH=tests/support $(RUN) python bench/fuzz.py --minutes $(or $(MINUTES),5)

.PHONY: bench-leadership
bench-leadership: setup ## Force leaders out 100 times while rollouts are under way; a quarter of an hour
	@PYTHONPATH=tests/support $(RUN) python bench/leadership.py

.PHONY: bench-serving
bench-serving: setup need-wrk ## Measure the runtime beside its peers; 25 minutes, less with ROUNDS=1 or MODELS=mlp
	@$(RUN) python bench/serving.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MODELS),--model $(MODELS))

.PHONY: bench-steady
bench-steady: setup need-wrk ## Measure memory over a million requests, and start to ready
	@PYTHONPATH=tests/support $(RUN) python bench/steady.py

.PHONY: bench-batching
bench-batching: setup need-wrk ## Measure what batches bring at 128 connections
	@PYTHONPATH=tests/support $(RUN) python bench/batching.py

.PHONY: bench-grpc
bench-grpc: setup ## Measure gRPC beside grpc.aio as commonly written
	@PYTHONPATH=tests/support $(RUN) python bench/grpc_rate.py

.PHONY: bench-raw-session
bench-raw-session: setup need-wrk ## Measure large models beside session.run alone
	@PYTHONPATH=tests/support $(RUN) python bench/raw_session.py

.PHONY: bench-int8
bench-int8: setup ## Measure what INT8 and FP16 gain and lose on a transformer and a CNN
	@$(RUN) python bench/int8.py

.PHONY: bench-goodput
bench-goodput: setup ## Measure what the runtime still answers under overload
	@PYTHONPATH=tests/support $(RUN) python bench/goodput.py

.PHONY: bench-workers
bench-workers: setup need-wrk ## Measure how the runtime scales from one worker to two
	@PYTHONPATH=tests/support $(RUN) python bench/workers.py

.PHONY: bench-fetch
bench-fetch: setup ## Measure fetching beside a plain download and SHA-256 alone
	@PYTHONPATH=tests/support $(RUN) python bench/fetch.py

.PHONY: bench-large
bench-large: setup ## Export, pack, push, fetch and serve a model above 2 GiB, memory bounded
	@PYTHONPATH=tests/support $(RUN) python bench/large.py

.PHONY: bench-push
bench-push: setup ## Measure pushing beside a plain upload
	@$(RUN) python bench/push.py

.PHONY: bench-sources
bench-sources: setup-node ## Take each kind of source into a cluster, and compare its answers
	@PYTHONPATH=tests/support $(RUN) python bench/sources.py

##@ Keep it in order

.PHONY: check
check: check-python check-shell check-docker check-generated check-docs check-chart ## All static checks

.PHONY: check-python
check-python: setup ## Ruff, pyright and the layers
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) pyright
	@$(RUN) pyright dev/check dev/generate
	@$(RUN) lint-imports

.PHONY: check-shell
check-shell: setup ## ShellCheck
	@$(RUN) dev/check/shell

.PHONY: check-docker
check-docker: setup ## Hadolint
	@$(RUN) hadolint Dockerfile.*

.PHONY: check-generated
check-generated: setup ## The generated files are what their sources say
	@$(RUN) python dev/generate --check
	@$(RUN) python dev/check/faults.py

.PHONY: check-docs
check-docs: setup ## Relative links lead somewhere
	@$(RUN) python dev/check/links.py

.PHONY: check-chart
check-chart: setup ## Values against their schema, helm lint, kubeconform, promtool (built at first)
	@$(RUN) python dev/check/chart.py

.PHONY: format
format: setup ## Let ruff mend what it can
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

.PHONY: generate
generate: setup ## Write the CRD, the chart's copy and README, docs/resource.md, requirements
	@$(RUN) python dev/generate

.PHONY: faults-page
faults-page: setup ## Write docs/faults.md from what the last run of the tests recorded
	@$(RUN) python dev/check/faults.py --record
	@$(RUN) python dev/generate

.PHONY: golden
golden: setup ## Write anew what the chart and the builders render, for review
	@UPDATE_GOLDEN=1 $(PYTEST) --quiet tests/unit/chart/test_golden.py \
	  tests/unit/controlplane/test_builders.py

.PHONY: images
images: setup-node ## Build the operator's and the runtime's image
	@dev/cluster build-images

.PHONY: clean
clean: ## Remove what the tools left in this folder (the cache of built programs stays)
	rm -rf .venv .tools .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
