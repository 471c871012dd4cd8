# Each target makes its own .venv when needed; nothing but git, make, python3 (3.10 or newer) and python3-venv is assumed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-system check bench soak deb debian clean

demo: $(VENV)/.demo  ## the main job on what ships: no camera, no GPU
	$(BIN)/edgewarden demo

test: $(VENV)/.dev debian  ## all tests, a process a core, each file in one of them
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-system: DEBIAN += systemd-container debootstrap
test-system: $(VENV)/.dev debian  ## the service under a real systemd, in a container; needs root (docs/service.md)
	$(BIN)/python tests/system/run.py $(SYSTEM)

check: $(VENV)/.dev  ## lint, types, structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_structure.py

bench: $(VENV)/.dev debian  ## the whole daemon beside the bare engine and its rivals, in under ten minutes (docs/performance.md)
	$(BIN)/python benchmarks/bench.py

soak: $(VENV)/.dev debian  ## fifty minutes: a broker and a network that fail, full load, four cameras of 1080p
	$(BIN)/python benchmarks/mqtt_storm.py
	$(BIN)/python benchmarks/soak.py --minutes 30
	$(BIN)/python benchmarks/bench_cameras.py --minutes 10

deb: $(VENV)/.dev  ## Debian packages in dist/: for this machine's Python, and for Jetsons with JetPack 6 and 7
	$(BIN)/python deploy/debian/build.py --arch amd64
	$(BIN)/python deploy/debian/build.py --arch arm64 --python 3.10
	$(BIN)/python deploy/debian/build.py --arch arm64 --python 3.12

# What the tests talk to, from the distribution: a broker, FFmpeg, an RTSP server, an OpenCV with GStreamer, packet loss.
DEBIAN := systemd mosquitto mosquitto-clients minisign ffmpeg nftables iproute2 python3-opencv python3-gi gir1.2-gst-rtsp-server-1.0 \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly

debian:  ## Debian's packages that the tests need, where they may be installed
	@command -v dpkg-query >/dev/null || { echo "not Debian: tests that need $(DEBIAN) may skip, saying so"; exit 0; }; \
	missing=""; for package in $(DEBIAN); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ]; then \
		echo "installing for the tests:$$missing"; \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing) \
			>/dev/null 2>&1 || echo "some could not be installed: the tests that need them will skip, saying so"; \
	else echo "apt-get install$$missing: the tests that need them will skip, saying so"; fi

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
	$(PIP) --no-deps --upgrade --target $(VENV)/stubs tensorrt-stubs==10.13.0.35.1
	$(BIN)/python tests/engines/mend_stubs.py $(VENV)/stubs
	@touch $@ $(VENV)/.demo

clean:  ## everything that the targets above made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output .bench
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
