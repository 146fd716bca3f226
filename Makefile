# make up     start Darkroom on http://127.0.0.1:8000; Ctrl-C ends it
# make test   run all tests
# make test-quick  run the tests that start no process: no database, no broker, no browser
# make soak   search for faults for a long time: 100,000 damaged files for the parsers, and every step of the job protocol
# make lint   check style, types, import rules, the console and the Dockerfile
# make docs   write the tables of settings, recipes and commands in docs/ from the code
# make pictures  draw the pictures of docs/ and weights/ from the shipped weights
# make pins   renew the hashes of the image's packages and the digests of all images, after a change of a version
# make peers  make an environment for the libraries of the comparison in bench/peers
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The console's linter. It must run in the console's folder, which has its settings.
CONSOLE := $(CURDIR)/$(BIN)/deno
# For `make up HOST=... PORT=...`. `=` ignores the environment, where other programs use these names too.
HOST = 127.0.0.1
PORT = 8000

# Where it is set, each process compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up install dev test test-quick soak lint docs pictures pins peers clean

up: install
	@exec $(BIN)/darkroom up --host $(HOST) --port $(PORT)

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Repeated only when one of these files changes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,digits,metrics]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,digits,metrics,dev]'
	@touch $@ $(VENV)/.installed

# Three processes, a file of tests at a time to each, in the order of tests/conftest.py: on two cores one may wait.
test: dev
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-quick: dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not processes"

soak: dev
	$(BIN)/python -m tests.fuzzing --inputs 100000
	$(BIN)/python -m tests.protocol.soak

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile.gpu
	$(BIN)/python tools/plain_words.py
	cd app/console && $(CONSOLE) fmt --check --quiet && $(CONSOLE) lint --quiet && $(CONSOLE) check --quiet static

docs: dev
	$(BIN)/python -m bench.reference

# Starts a service and a headless Chromium of its own. Takes a few minutes.
pictures: dev
	$(BIN)/python -m bench.pictures

pins: .pins/.installed
	.pins/bin/python tools/pins.py
.pins/.installed:
	$(PYTHON) -m venv .pins
	.pins/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@touch $@

# denoising-diffusion-pytorch without its dependencies: bench/peers uses a part that needs only einops.
peers: .peers/.installed
.peers/.installed: bench/peers/requirements.txt
	$(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
	.peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps denoising-diffusion-pytorch==2.3.4
	@touch $@

clean:
	rm -rf $(VENV) .peers .pins *.egg-info .mypy_cache .ruff_cache .pytest_cache
