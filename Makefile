# What one does with a checkout. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
# Two -q: only errors; the build's deprecation warnings are its maintainers' business.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTHON_WHEEL := PYTHONWARNINGS=ignore $(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/python -m piptools compile --quiet --strip-extras \
	--generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup run test tools format-check lint types imports pytest image-test format bench bench-estimation soak \
	wheels deb lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## .venv with everything for development; .venv/bin/bmsd works afterwards

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "bmsd needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "name another one: make setup PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian, as root: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes -r requirements-dev.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## a simulated rack with the real daemon, until Ctrl-C
	$(BIN)/bmsd demo

test: tools setup format-check lint types imports pytest ## everything that must be green

tools:
	@PYTHON=$(PYTHON) tests/tools/install

format-check: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports --no-logo

pytest: setup tools
	$(BIN)/python -m pytest --ignore=tests/bench --ignore=tests/image

image-test: setup ## build the container image and run it; as root, with buildah and crun
	@PYTHON=$(PYTHON) CI=true tests/tools/install image
	$(BIN)/python -m pytest tests/image -s

format: setup ## rewrite the code the way format-check wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## speed, as ratios measured in one run
	$(BIN)/python -m pytest tests/bench -s

bench-estimation: setup ## accuracy of the estimators on measured series: writes docs/accuracy.md
	$(BIN)/python -m tests.bench.estimation_accuracy -o docs/accuracy.md

soak: setup ## simulated time of simulator, control and gateway: DAYS=0.25 takes 1.5 hours, DAYS=2 eleven
	@PYTHON=$(PYTHON) tests/tools/install soak
	tests/soak/run $(or $(DAYS),0.25)

wheels: setup ## build/wheels: all packages for the Python of this system, for installations without network
	@mkdir -p build/wheels
	@$(BIN)/python -m pip --python /usr/bin/python3 download -qq --disable-pip-version-check --require-hashes \
		--only-binary :all: -d build/wheels -r requirements.txt
	@rm -rf build/wheels/bmsd-*.whl build/lib build/bdist.* # what setuptools finds there goes into the wheel
	@$(PYTHON_WHEEL) -w build/wheels .

deb: build/.deb ## build/bmsd_*.deb: the Debian package for this system

build/.deb: requirements.txt pyproject.toml $(wildcard $(shell git ls-files bmsd dbc deploy systemd docs))
	@$(MAKE) --no-print-directory wheels
	@deploy/make-deb
	@touch $@

lock: ## pin the newest fitting packages, with hashes
	@test -x $(BIN)/python || $(MAKE) setup
	$(COMPILE) --upgrade --output-file requirements.txt pyproject.toml
	$(COMPILE) --upgrade --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

clean: ## remove what the targets above made
	rm -rf $(VENV) .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
