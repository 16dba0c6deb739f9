# Sets everything up inside the project: needs Python >= 3.11, cargo and make, nothing else.
#   make demo        build, run a load against the built-in mock server, show the report
#   make test        all tests that need no server; make test-real: those against real ones; test-arm: for aarch64; make lint, bench, docs, clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REAL := .venvs/llamacpp
# Near release speed at a fraction of its build time (Cargo.toml); `make PROFILE=release build` is what a wheel has.
PROFILE ?= bench-fast
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip --quiet
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')
PY := $(wildcard python tests benches examples docs)

.DEFAULT_GOAL := demo
.PHONY: demo build test test-rust test-loom test-python test-real test-arm stress tsan bench bench-micro bench-rust bench-peers lint lint-quick docs clean

demo: $(VENV)/.built
	$(BIN)/loadgen run 'mock:?ttft=lognormal:60ms,0.4&gap=normal:8ms,2ms&error_rate=0.01' --rate 40 --duration 10s \
		--output-tokens 48 --slo ttft:150ms --slo tpot:12ms

build: $(VENV)/.built

test: lint-quick test-rust test-loom test-python

test-rust: $(VENV)/.tools
	$(BIN)/python tests/count.py rust -- cargo test --locked --no-fail-fast

# The lock-free parts in every interleaving, and with each ordering weakened in turn. In a folder of its own, because the
# flag is one of the whole build.
test-loom: $(VENV)/.tools
	CARGO_TARGET_DIR=target/loom RUSTFLAGS='--cfg loadgen_loom' \
		$(BIN)/python tests/count.py loom -- cargo test --locked --no-fail-fast --lib ::model::

test-python: $(VENV)/.built
	$(BIN)/python tests/count.py python -- $(BIN)/pytest --quiet

# Writers and readers in processes of their own, for longer and faster than among the other tests.
stress: $(VENV)/.tools
	LOADGEN_STRESS_VALUES=300000000 cargo test --locked --profile $(PROFILE) --test series -- process

# The wheel for aarch64, tested under emulation on x86-64 with what apt and PyPI have; the code it orders memory with, checked.
test-arm: $(VENV)/.arm
	PYTHONPATH=tests $(BIN)/python -m arm

# Where a nightly compiler is at hand; else it says that it isn't.
tsan: $(VENV)/.tools
	$(BIN)/python tests/tsan.py

test-real: $(VENV)/.built $(REAL)/.ready
	$(BIN)/python tests/count.py real -- $(BIN)/pytest --quiet tests/real

bench: $(VENV)/.built
	$(BIN)/python benches/run.py

# What single calls cost, beside what they replace, and beside the last time. What Python never calls is in bench-rust.
bench-micro: $(VENV)/.built
	$(BIN)/python benches/micro.py

bench-rust:
	cargo bench --locked --quiet --profile $(PROFILE) --bench event --bench policy --bench series --bench sse

# Other clients beside ours: each is installed under .venvs/peers first, where that is possible, which takes a while.
bench-peers: $(VENV)/.built
	$(BIN)/python benches/run_peers.py

# What takes seconds; `lint` adds what compiles.
lint-quick: $(VENV)/.tools
	$(BIN)/ruff format --check --quiet $(PY)
	$(BIN)/ruff check --quiet $(PY)
	PYTHONPATH=python $(BIN)/lint-imports --no-logo
	$(BIN)/python tests/direction.py
	cargo fmt --check

lint: lint-quick $(VENV)/.built
	$(BIN)/mypy
	$(BIN)/stubtest loadgen._core
	cargo clippy --locked --all-targets --quiet -- -D warnings
	cargo clippy --locked --all-targets --features python --quiet -- -D warnings

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@! grep -rhoE '<(script|link|img|iframe)[^>]+(src|href)="https?://[^"]+"' --include='*.html' site || (echo "docs: a page fetches the above"; exit 1)
	@echo "docs: site/index.html"

clean:
	rm -rf $(VENV) .venvs target site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	rm -f python/loadgen/_core*.so

# Stamps: what is there and not older than what it is made of isn't made again.
$(VENV)/.tools: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "loadgen needs Python >= 3.11; name one: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install 'pip>=25.1'
	$(PIP) install --group dev
	@touch $@

$(VENV)/.built: $(VENV)/.tools $(RUST)
	PIP_QUIET=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/maturin develop --profile $(PROFILE) --locked
	@touch $@

$(VENV)/.docs: $(VENV)/.tools
	$(PIP) install --group docs
	@touch $@

$(VENV)/.arm: $(VENV)/.tools
	$(PIP) install --group arm
	@touch $@

$(REAL)/.ready: tests/servers/requirements.txt tests/servers/make_tiny_gguf.py
	$(PYTHON) -m venv $(REAL)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(REAL)/bin/python -m pip --quiet install --only-binary :all: --requirement $<
	$(REAL)/bin/python tests/servers/make_tiny_gguf.py $(REAL)/model
	@touch $@
