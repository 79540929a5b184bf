# Every target sets up what it needs: a virtual environment in .venv, the packages of one extra, and the compiled module.
# What was installed is remembered by a stamp, so a second run starts at once.

PYTHON ?= python3
NEGFAST_TEST_EXTRAS ?= test

BIN := .venv/bin
SOURCES := pyproject.toml Cargo.toml $(wildcard Cargo.lock) $(shell find rust -name '*.rs' -o -name Cargo.toml)

# maturin installs into the environment named here, and refuses to choose between two.
export VIRTUAL_ENV := $(CURDIR)/.venv
# Both maturin and cargo build against this interpreter, so neither undoes the other's work.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
unexport CONDA_PREFIX PYTHONHOME

.PHONY: setup demo test test-peers test-rust soundness lint deny fuzz wheels bench bench-peers bench-refresh quality quality-full docs docs-serve clean
.DEFAULT_GOAL := test

setup: .venv/.installed-lint,test

demo: .venv/.installed-cli
	$(BIN)/negfast demo $(DEMO_ARGUMENTS)

test: .venv/.installed-$(NEGFAST_TEST_EXTRAS) test-rust
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

test-peers:
	$(MAKE) test NEGFAST_TEST_EXTRAS=test,bench

# The binding is left out: Python tests it, and a test binary of it would need Python's development library.
# cargo-nextest, where it is installed, runs the tests and cargo the examples in the documentation.
test-rust:
	@if cargo nextest --version >/dev/null 2>&1; then \
	  set -x; cargo nextest run --workspace --exclude negfast-py && cargo test --workspace --exclude negfast-py --doc; \
	else \
	  set -x; cargo test --workspace --exclude negfast-py; \
	fi

# Every decision of the int8 tile over so many pairs of anchor and row, of each kind of rows; some minutes.
SOUNDNESS_PAIRS ?= 1e8

soundness:
	NEGFAST_SOUNDNESS_PAIRS=$(SOUNDNESS_PAIRS) NEGFAST_SOUNDNESS_FILE=$(CURDIR)/benches/results/soundness.txt \
	  cargo test --release -p negfast-core --test int8 no_row_that_matters_is_dropped

lint: .venv/.installed-lint deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest negfast._negfast

deny:
	@if cargo deny --version >/dev/null 2>&1; then set -x; cargo deny --workspace check; \
	else echo 'cargo-deny is not installed: licences, advisories and sources of the crates are not checked'; fi

# Each parser of files in turn; needs a nightly toolchain with cargo-fuzz.
FUZZ_SECONDS ?= 300

fuzz: .venv/.installed-cli,test
	$(BIN)/python -m pip install --quiet atheris
	for target in npy safetensors mined simhash jsonl parquet recipe plan \
	  flag-embedding tevatron-passages nemo trec-qrels trec-run; do \
	  $(BIN)/python fuzz/run.py $$target -max_total_time=$(FUZZ_SECONDS) || exit 1; done
	for target in tensors nearest; do \
	  cargo +nightly fuzz run --fuzz-dir rust/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

# Other interpreters to build for and to install into: make wheels WHEEL_ARGUMENTS='--python python3.11 --python python3.14t'
wheels: | .venv/bin/python
	$(BIN)/python scripts/check_wheels.py --out dist $(WHEEL_ARGUMENTS)

bench: .venv/.installed-bench
	cargo bench --workspace --exclude negfast-py
	$(BIN)/python benches/peers/overhead.py
	$(BIN)/python benches/peers/topk.py
	$(BIN)/python benches/peers/mine.py
	$(BIN)/python benches/peers/near_duplicates.py
	$(BIN)/python benches/reservoir/reservoir.py
	$(BIN)/python benches/loss/loss.py --part peer
	$(BIN)/python benches/loss/loss.py --part statistics

# The searches of the bench table against every peer; needs about 8 GB of memory and an hour.
# Some of it: make bench-peers PEERS_ARGUMENTS='--case 95 99 --rounds 1'
bench-peers: .venv/.installed-bench
	$(BIN)/python benches/peers/search.py $(PEERS_ARGUMENTS)

# Refreshes along a training run; needs about 4 GB on disk and half an hour.
bench-refresh: .venv/.installed-bench
	$(BIN)/python benches/refresh/trajectory.py
	$(BIN)/python benches/refresh/refresh.py $(REFRESH_ARGUMENTS)

# Whether embeddings get better, and at what price: planned for a quarter of an hour on two cores; the whole experiment for a night.
# Some of it: make quality QUALITY_ARGUMENTS='--data code'
quality: .venv/.installed-bench
	$(BIN)/python benches/quality/run.py --plan quick $(QUALITY_ARGUMENTS)

quality-full: .venv/.installed-bench
	$(BIN)/python benches/quality/run.py --plan full $(QUALITY_ARGUMENTS)

docs: .venv/.installed-docs
	$(BIN)/python -m mkdocs build --strict

docs-serve: .venv/.installed-docs
	$(BIN)/python -m mkdocs serve --strict

clean:
	rm -rf .venv target dist site docs/plots

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'negfast needs Python 3.11 or newer; name one: make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv .venv

.venv/bin/maturin: | .venv/bin/python
	$(BIN)/python -m pip install --quiet 'maturin>=1.9.4,<2'

# One stamp for each set of extras (comma-separated). A change of the Rust sources builds again; Python's are read in place.
.venv/.installed-%: $(SOURCES) | .venv/bin/maturin
	$(BIN)/maturin develop --release --extras $*
	@touch $@
