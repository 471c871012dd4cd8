# Each target makes its own .venv when needed; nothing but git, make, python3 (3.10 or newer) and python3-venv is assumed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test check bench soak mosquitto clean

demo: $(VENV)/.demo  ## the main job on what ships: no camera, no GPU
	$(BIN)/edgewarden demo

test: $(VENV)/.dev mosquitto  ## all tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## lint, types, structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_structure.py

bench: $(VENV)/.dev  ## engine floor and whole pipeline, side by side
	$(BIN)/edgewarden bench

soak: $(VENV)/.dev mosquitto  ## ten minutes of a broker and a network that fail, paho alone beside it
	@if command -v nft >/dev/null || [ -x /usr/sbin/nft ] || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then :; \
	else (apt-get update -qq && apt-get install -y -qq --no-install-recommends nftables iproute2) >/dev/null 2>&1 || true; fi
	$(BIN)/python benchmarks/mqtt_storm.py

mosquitto:  ## the broker that the tests talk to, from the distribution, where it may be installed
	@if command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients) >/dev/null 2>&1 \
		|| echo "mosquitto could not be installed: the tests that need a broker will skip, saying so"; \
	else echo "no mosquitto here (apt-get install mosquitto mosquitto-clients): the tests that need a broker will skip, saying so"; fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "edgewarden needs Python 3.10 or newer; set PYTHON=python3.11, say"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python setup.cfg pyproject.toml
	@echo "installing into $(VENV) (once)"
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python setup.cfg pyproject.toml
	@echo "installing the development tools into $(VENV) (once)"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

clean:  ## everything that the targets above made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
