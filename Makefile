# Sets everything up inside the project: needs Python >= 3.11, cargo and make, nothing else.
#   make demo        build, run a load against the built-in mock server, show the report
#   make test        all tests that need no server; make test-real: those against real ones; test-arm: for aarch64; make lint, bench, docs, clean
#   make wheels      what would be published, made and checked as far as one machine can

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REAL := .venvs/llamacpp
LITELLM := .venvs/litellm
WHEELS := .venvs/wheels
OLDEST := .venvs/oldest
FREE := .venvs/free-threaded
# Near release speed at a fraction of its build time (Cargo.toml); `make PROFILE=release build` is what a wheel has.
PROFILE ?= bench-fast
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip --quiet
ACTIONLINT := v1.7.12
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')
PY := $(wildcard python tests benches examples docs)

.DEFAULT_GOAL := demo
.PHONY: demo build test test-rust test-loom test-python test-real test-arm test-oldest test-free-threaded stress tsan bench \
	bench-micro bench-rust bench-peers bench-instructions bench-compare lint lint-quick features workflows docs sdist wheels \
	wheels-arm cibuildwheel check-dist clean

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

# With the lowest version of each dependency that pyproject.toml allows.
test-oldest: $(VENV)/.tools
	$(PYTHON) -m venv --clear $(OLDEST)
	$(BIN)/python tests/oldest.py > $(OLDEST)/constraints.txt
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(OLDEST)/bin/python -m pip --quiet install 'pip>=25.1'
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(OLDEST)/bin/python -m pip --quiet install --group test \
		--constraint $(OLDEST)/constraints.txt --config-settings build-args='--profile $(PROFILE)' .
	$(OLDEST)/bin/python -m pip list --format freeze
	$(BIN)/python tests/count.py oldest -- $(OLDEST)/bin/python -m pytest --quiet

# On a Python without its lock: `make PYTHON=python3.14t test-free-threaded`. What the tests alone import may turn the lock on
# again, so it is turned off for them; that loadgen and all that it needs don't is a test of its own.
test-free-threaded:
	@$(PYTHON) -c 'import sys, sysconfig; sys.exit(not sysconfig.get_config_var("Py_GIL_DISABLED") and "this Python has its lock; name one without: make PYTHON=python3.14t test-free-threaded")'
	$(PYTHON) -m venv --clear $(FREE)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(FREE)/bin/python -m pip --quiet install 'pip>=25.1'
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(FREE)/bin/python -m pip --quiet install --group test \
		--config-settings build-args='--profile $(PROFILE)' .
	$(FREE)/bin/python -m pytest --quiet tests/test_free_threaded.py
	PYTHON_GIL=0 $(PYTHON) tests/count.py free-threaded -- $(FREE)/bin/python -m pytest --quiet

test-real: $(VENV)/.built $(REAL)/.ready $(LITELLM)/.ready
	$(BIN)/python tests/count.py real -- $(BIN)/pytest --quiet tests/real

bench: $(VENV)/.built $(LITELLM)/.ready
	$(BIN)/python benches/run.py

# What single calls cost, beside what they replace, and beside the last time. What Python never calls is in bench-rust.
bench-micro: $(VENV)/.built
	$(BIN)/python benches/micro.py

bench-rust:
	cargo bench --locked --quiet --profile $(PROFILE) --bench event --bench policy --bench series --bench sse

# Other clients beside ours: each is installed under .venvs/peers first, where that is possible, which takes a while.
bench-peers: $(VENV)/.built
	$(BIN)/python benches/run_peers.py

# How many instructions the hot paths have; says SKIPPED without valgrind.
bench-instructions: $(VENV)/.tools
	$(BIN)/python benches/instructions.py --profile $(PROFILE)

# This tree beside another commit of it on the same machine, `make bench-compare BASE=main`: fails where a call costs a
# quarter more, or a hot path has a twentieth more instructions. What wasn't there before is told, and judged the next time.
BASE ?= main
COMPARED := $(CURDIR)/target/bench-compare
bench-compare: $(VENV)/.built
	rm -rf $(COMPARED) && mkdir -p $(COMPARED)
	git worktree prune && git worktree add --quiet --detach --force target/bench-base $(BASE)
	@status=0; \
	if test -f target/bench-base/benches/micro.py && test -f target/bench-base/benches/instructions.py; then \
		$(MAKE) -C target/bench-base PROFILE=$(PROFILE) build && \
		(cd target/bench-base && $(BIN)/python benches/micro.py --keep $(COMPARED)/calls && \
			$(BIN)/python benches/instructions.py --profile $(PROFILE) --out $(COMPARED)/base.json) || status=$$?; \
	else echo '{}' > $(COMPARED)/base.json; fi; \
	$(BIN)/python benches/micro.py --keep $(COMPARED)/calls --fail 25 || status=$$?; \
	$(BIN)/python benches/instructions.py --profile $(PROFILE) --out $(COMPARED)/head.json \
		--against $(COMPARED)/base.json --fail 5 || status=$$?; \
	git worktree remove --force target/bench-base; exit $$status

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

# Every set of features by itself: what one needs must not come in with another. And what no set turns on: no series, and
# the ABI of a Python without its lock.
features:
	cargo check --locked --all-targets --quiet
	cargo check --locked --all-targets --features python --quiet
	RUSTFLAGS='--cfg loadgen_bench_no_series' CARGO_TARGET_DIR=target/features cargo check --locked --features python --quiet
	PYO3_CONFIG_FILE=$(CURDIR)/tests/release/free_threaded.txt CARGO_TARGET_DIR=target/features \
		cargo check --locked --features python --quiet

# actionlint where Go can install it; zizmor from PyPI; and that the wheels asked for are those that cibuildwheel knows.
workflows: $(VENV)/.workflows $(WHEELS)/.ready
	@if test -x $(BIN)/actionlint; then $(BIN)/actionlint; else echo "SKIPPED: actionlint, which needs Go to be installed"; fi
	$(BIN)/zizmor --offline --quiet .github
	PYTHONPATH=tests $(WHEELS)/bin/python -m release identifiers

sdist: $(WHEELS)/.ready
	PYTHONPATH=tests $(WHEELS)/bin/python -m release sdist

# The source distribution, and of it the wheel for this machine, in an empty environment and through the README's commands.
wheels: $(WHEELS)/.ready
	PYTHONPATH=tests $(WHEELS)/bin/python -m release wheel

# The same for aarch64, emulated (as test-arm).
wheels-arm: $(WHEELS)/.ready
	PYTHONPATH=tests $(WHEELS)/bin/python -m release wheel --aarch64

# What wheels.yml runs on a machine of each kind.
cibuildwheel: $(WHEELS)/.ready
	$(WHEELS)/bin/cibuildwheel dist/*.tar.gz

# All that would be published.
check-dist: $(WHEELS)/.ready
	PYTHONPATH=tests $(WHEELS)/bin/python -m release check dist

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@! grep -rhoE '<(script|link|img|iframe)[^>]+(src|href)="https?://[^"]+"' --include='*.html' site || (echo "docs: a page fetches the above"; exit 1)
	@echo "docs: site/index.html"

clean:
	rm -rf $(VENV) .venvs target site dist wheelhouse .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
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

# actionlint is a Go program; its package on PyPI would download it from elsewhere.
$(VENV)/.workflows: $(VENV)/.tools
	$(PIP) install --group workflows
	@if command -v go > /dev/null; then \
		GOBIN=$(CURDIR)/$(BIN) go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT); fi
	@touch $@

$(WHEELS)/.ready: pyproject.toml constraints.txt
	@test -x $(WHEELS)/bin/python || $(PYTHON) -m venv $(WHEELS)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(WHEELS)/bin/python -m pip --quiet install 'pip>=25.1'
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(WHEELS)/bin/python -m pip --quiet install --group wheels --constraint constraints.txt
	@touch $@

$(REAL)/.ready: tests/servers/requirements.txt tests/servers/make_tiny_gguf.py
	$(PYTHON) -m venv $(REAL)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(REAL)/bin/python -m pip --quiet install --only-binary :all: --requirement $<
	$(REAL)/bin/python tests/servers/make_tiny_gguf.py $(REAL)/model
	@touch $@

# Where it can't be had, its tests and its benchmark are left out, and say so.
$(LITELLM)/.ready: tests/servers/litellm.txt
	$(PYTHON) -m venv --clear $(LITELLM)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(LITELLM)/bin/python -m pip --quiet install --only-binary :all: --requirement $< \
		&& touch $@ || echo "SKIPPED: LiteLLM, which pip could not install into $(LITELLM)"
