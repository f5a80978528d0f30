# `make run` starts the whole program, `make setup && make test-unit` lead a contributor to the first green test, and
# `make test` runs everything. All of them need only Python >= 3.11.
PYTHON      ?= python3
VENV        ?= .venv
# PyTorch's own index has builds without CUDA; where it cannot be reached, PyPI's build is taken.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PORT        ?= 8080
PYTEST_ARGS ?=
# Test files are shared out to as many processes as there are cores, four at most: each starts servers of its own.
PARALLEL    ?= -n logical --maxprocesses 4 --dist loadfile
# Unit tests are small: two processes start faster than four.
PARALLEL_UNIT ?= -n 2 --dist worksteal
# What `test-queue` runs the tests of the queue on: single, sentinel or cluster.
REDIS       ?= sentinel
PIP_AUDIT   ?= 2.10.1

BIN      := $(VENV)/bin
PIP      := $(BIN)/python -m pip --disable-pip-version-check
TORCH    := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
QUEUE    := capacity capacity_shares clip_stream dead_letters fleet_sums idempotency job_events job_list job_store lead model_directory \
	queue_defects queue_sampler quota races reservation_counts result_bus result_cache turns unaccepted_clips webhooks
QUEUE_TESTS := $(addprefix tests/integration/,worker partitions $(QUEUE:%=test_%.py))
SOURCES  := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup run dev test test-unit coverage test-ci test-full test-queue test-gpu lint fmt docs pictures bundle bench bench-full bench-gate audit manifests pin-images peers triton browser fixture-model clean

help: ## Show this help.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.test ## Make .venv with all that tests and checks need; once, before everything else.

run: $(VENV)/.local ## Start API, worker and a private Redis; Ctrl-C stops them.
	@exec $(BIN)/vidtr up --port $(PORT)

dev: $(VENV)/.test ## As `run`, and start anew whenever a file of service/ changes.
	@exec $(BIN)/watchfiles --filter python --sigint-timeout 30 '$(BIN)/vidtr up --port $(PORT)' service

# Compiled code is kept, whatever the environment says: each process of each run would compile all of it again.
test-unit test test-ci test-full test-queue: export PYTHONDONTWRITEBYTECODE :=

test-unit: $(VENV)/.test ## Run the unit tests alone: no server, no network, under a minute.
	$(BIN)/python -m pytest tests/unit $(PARALLEL_UNIT) $(PYTEST_ARGS)

test: $(VENV)/.test triton ## Lint, type-check and run unit, integration and end-to-end tests.
	$(MAKE) lint
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-ci: $(VENV)/.test triton browser ## What CI runs beyond `make test`.
	$(BIN)/python -m pytest -m slow $(PARALLEL) $(PYTEST_ARGS)

test-full: $(VENV)/.test triton browser ## Every test at full size.
	VIDTR_CHAOS_JOBS=500 VIDTR_FUZZ_FILES=20000 VIDTR_SIMULATIONS=100000 VIDTR_RELEASE_REQUESTS=200 VIDTR_DISK_CUTS=256 \
		VIDTR_FUZZ_REPORTS=10000 VIDTR_TRUNCATIONS=1000 VIDTR_MUTANTS=all VIDTR_FAILOVERS=50 VIDTR_FAILOVER_JOBS=100 \
		VIDTR_SAMPLED_CLIPS=200 VIDTR_FOREIGN_FULL=1 VIDTR_LOSSY_STREAMS=20 $(BIN)/python -m pytest -m "" $(PYTEST_ARGS)
	$(MAKE) test-queue REDIS=sentinel
	$(MAKE) test-queue REDIS=cluster

test-queue: $(VENV)/.test ## The tests of the queue on Redis under Sentinels, or REDIS=cluster.
	VIDTR_TEST_REDIS=$(REDIS) $(BIN)/python -m pytest $(PARALLEL) $(QUEUE_TESTS) $(PYTEST_ARGS)

test-gpu: $(VENV)/.test ## What needs a GPU, in at most eight minutes: parity, memory and speed of exported networks, and of the service.
	timeout 160 $(BIN)/python -m pytest -m gpu -s tests/gpu $(PYTEST_ARGS)
	timeout 320 $(BIN)/python -m benchmarks.gpu --budget-s 200

coverage: $(VENV)/.test triton ## Branch coverage of service/ by unit and integration tests; fails under the floor of pyproject.toml.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/unit tests/integration $(PYTEST_ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

lint: $(VENV)/.test ## Style, types and the import contract.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fmt: $(VENV)/.test ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.test ## Build the documentation as a site in build/docs; broken links fail.
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

bundle: DESCRIPTION ?= Which way the camera moves, how it is held, and cuts, fades and dissolves: C-VidTr trained from scratch on generated clips and windows of real videos.
bundle: $(VENV)/.test $(VENV)/.bench ## Replace the bundled model by the run RUN as VERSION; measure it on TRUTH, a table of windows of VIDEOS, and on PICTURES.
	$(BIN)/vidtr evaluate $(RUN) --precision $(or $(PRECISION),0.9)
	$(BIN)/vidtr export $(RUN) --repository model_repository --name camera_motion --version $(VERSION) --replace --spatial \
		--description "$(DESCRIPTION)"
	$(BIN)/python -m benchmarks.classical_motion $(TRUTH) --videos $(VIDEOS) --out build/bundle
	$(BIN)/vidtr evaluate model_repository/camera_motion --truth build/bundle/truth.csv --videos $(VIDEOS) --out build/bundle \
		--beside build/bundle/classical.csv --beside build/bundle/pyscenedetect.csv
	$(BIN)/vidtr evaluate model_repository/camera_motion --pictures $(PICTURES) --out build/bundle $(if $(FOOTAGE),--footage $(FOOTAGE))
	$(BIN)/python -m docs.card_tables --windows build/bundle/windows.json --assessment build/bundle/figures.json
	$(BIN)/python -m docs.contact_sheets
	$(BIN)/python -m docs.pictures

pictures: $(VENV)/.test ## Draw the pictures of docs/model.md again, from the bundled model.
	$(BIN)/python -m docs.pictures

bench: $(VENV)/.bench ## Measure queue, worker, engine, the whole program and its cost in a few minutes; writes a report.
	$(BIN)/python -m benchmarks.queue_throughput --rounds 3 --seconds 3 --clips 2000
	$(BIN)/python -m benchmarks.throughput --rounds 3 --seconds 5
	$(BIN)/python -m benchmarks.e2e --rounds 3 --seconds 5 --requests 100
	$(BIN)/python -m benchmarks.cost --small
	$(BIN)/python -m benchmarks.report

bench-full: $(VENV)/.bench triton peers ## Measure everything at full size, peers included; takes hours.
	$(BIN)/python -m benchmarks.queue_throughput --workers 8
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.throughput --engine triton
	$(BIN)/python -m benchmarks.throughput --model cvidtr_s_8x8 --seconds 30
	$(BIN)/python -m benchmarks.throughput --model cvidtr_s_8x8 --engine triton --seconds 30
	$(BIN)/python -m benchmarks.e2e --sweep --requests 500
	$(BIN)/python -m benchmarks.e2e --model cvidtr_s_8x8 --seconds 60 --rounds 3 --no-latency
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.durability
	$(BIN)/python -m benchmarks.model
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.peers.run --sweep
	$(BIN)/python -m benchmarks.peers.run --sweep --model cvidtr_s_8x8 --requests 0 --seconds 60
	$(BIN)/python -m benchmarks.report

bench-gate: $(VENV)/.test ## Fail where a ratio has fallen below 0.7 of the recorded one; small, for CI.
	$(BIN)/python -m benchmarks.gate

audit: $(VENV)/.python ## Look the packages of the images up in the vulnerability database of PyPI (needs pypi.org).
	$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install -q pip-audit==$(PIP_AUDIT)
	for lock in docker/locks/*.txt; do \
		$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done

manifests: $(VENV)/.test ## Render deploy/k8s from the Helm chart, after a change of either or of the alerts.
	$(BIN)/python -m deploy.render

pin-images: ## Write the digests of the images of others to docker/images.env and deploy/pinned (needs Docker and the registries).
	$(PYTHON) docker/pin_images.py

peers: $(VENV)/.bench ## Make the environments of the serving frameworks that `bench-full` compares with.
	$(BIN)/python -m benchmarks.peers.environments

triton: $(VENV)/.test ## Install a CPU tritonserver for the tests (Linux x86-64).
	$(BIN)/vidtr install-triton

browser: $(VENV)/.test ## Install a Chromium for the tests of the page, where there is none.
	@$(BIN)/python -m tests.e2e.browser || $(BIN)/playwright install chromium \
		|| echo "No Chromium can be had: the tests of the page will be skipped. Debian's package is called chromium." >&2

fixture-model: $(VENV)/.local ## Generate the model with random weights that tests serve again.
	$(BIN)/vidtr export untrained_tiny --repository tests/fixtures/model_repository

clean: ## Remove what the commands above made.
	rm -rf $(VENV) .peers .triton .vidtr .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt
	@$(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' $(TORCH_INDEX)/torch/ 2>/dev/null \
		&& $(PIP) install -q $(TORCH) --index-url $(TORCH_INDEX) --extra-index-url https://pypi.org/simple \
		|| $(PIP) install -q $(TORCH)
	@touch $@

$(VENV)/.local: $(VENV)/.torch $(SOURCES)
	$(PIP) install -q -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.bench: $(VENV)/.local
	$(PIP) install -q -c constraints.txt -e '.[local,bench]'
	@touch $@

$(VENV)/.test: $(VENV)/.local
	$(PIP) install -q -c constraints.txt -e '.[local,train,test]'
	@touch $@
