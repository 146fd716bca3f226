# make up     start Darkroom on http://127.0.0.1:8000; Ctrl-C ends it
# make test   run all tests
# make test-quick  run the tests that start no process: no database, no broker, no browser
# make lint   check style, types, import rules, the console and the Dockerfile
# make docs   write the tables of settings, recipes and commands in docs/ from the code, and the alert rules for Kubernetes
# make pictures  draw the pictures of docs/ and weights/ from the shipped weights
# make pins   renew the hashes of the image's packages and the digests of all images, after a change of a version
# make soak   look for faults for longer than tests do: generated requests, damaged files, traces of the job protocol
# make clients  generate clients from the OpenAPI document with three generators, and use them against a service
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

.PHONY: up install dev test test-quick lint docs pictures pins soak clients peers clean

up: install
	@exec $(BIN)/darkroom up --host $(HOST) --port $(PORT)

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev .moto/.installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Repeated only when one of these files changes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,digits,metrics]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,digits,metrics,dev]'
	@touch $@ $(VENV)/.installed

# A server of S3, for tests. Its packages do not fit to constraints.txt.
.moto/.installed: tests/fixtures/s3_requirements.txt
	$(PYTHON) -m venv .moto
	.moto/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/fixtures/s3_requirements.txt
	@touch $@

# Three processes, a file of tests at a time to each, in the order of tests/conftest.py: on two cores one may wait.
test: dev
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-quick: dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not processes"

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

# Each line is a step of its own.
soak: dev
	$(BIN)/python -m tests.app.description.soak
	$(BIN)/python -m tests.protocol.soak
	$(BIN)/python -m tests.fuzzing --inputs 100000

# Needs Node.js with npm, and a Java runtime. Takes about two minutes.
clients: dev .clients/.installed
	$(BIN)/python -m bench.clients
.clients/.installed: bench/clients/requirements.txt
	$(PYTHON) -m venv .clients
	.clients/bin/python -m pip install --quiet --disable-pip-version-check -r bench/clients/requirements.txt
	npm install --silent --no-save --prefix .clients typescript@5.9.3 @types/node@20.19.43
	@touch $@

# denoising-diffusion-pytorch without its dependencies: bench/peers uses a part that needs only einops.
peers: .peers/.installed
.peers/.installed: bench/peers/requirements.txt
	$(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
	.peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps denoising-diffusion-pytorch==2.3.4
	@touch $@

clean:
	rm -rf $(VENV) .moto .peers .pins .clients *.egg-info .mypy_cache .ruff_cache .pytest_cache
