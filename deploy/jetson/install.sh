#!/bin/bash
# Installs edgewarden as a service on a Jetson (JetPack 6 and 7) or a plain Debian/Ubuntu on x86_64; may be run again.
# The environment sees JetPack's TensorRT and OpenCV, and no wheel may shadow them.
# DESTDIR is put before every path that is read or written (for tests of a made root).
set -euo pipefail

usage() {
    echo "usage: install.sh [--dry-run] [--uninstall]   (as root, from a checkout)"
}

DRY=0 UNINSTALL=0
for argument in "$@"; do
    case $argument in
        --dry-run) DRY=1 ;;
        --uninstall) UNINSTALL=1 ;;
        -h|--help) usage; exit 0 ;;
        *) echo "install.sh: unknown option $argument" >&2; usage >&2; exit 64 ;;
    esac
done

ROOT=${DESTDIR:-}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PREFIX=$ROOT/opt/edgewarden
UNIT=$ROOT/etc/systemd/system/edgewarden.service
DROP_IN=$UNIT.d/jetson.conf
SYSUSERS=$ROOT/etc/sysusers.d/edgewarden.conf
TMPFILES=$ROOT/etc/tmpfiles.d/edgewarden.conf
CONFIG=$ROOT/etc/edgewarden/agent.toml

refuse() { echo "install.sh: $*" >&2; exit 1; }

run() {
    echo "+ $*"
    if [ "$DRY" = 0 ]; then "$@"; fi
}

# 36.4.3 from "# R36 (release), REVISION: 4.3, ..." or else from the version of nvidia-l4t-core; empty: no Jetson.
l4t() {
    local file=$ROOT/etc/nv_tegra_release
    if [ -r "$file" ]; then
        sed -nE '1s/^# R([0-9]+) \(release\), REVISION: ([0-9.]+),.*/\1.\2/p' "$file"
    else
        dpkg-query -W -f '${Version}' nvidia-l4t-core 2>/dev/null | sed -E 's/-.*//' || true
    fi
}

# Sets KIND, CUDA and WANTED (the Python that TensorRT's bindings are for). The table is agent/board/jetpack.py's.
recognise() {
    local release
    release=$(l4t)
    case $release in
        36.2*|36.3*) KIND=jetson CUDA=12.2 WANTED=3.10 ;;
        36.4*|36.5*) KIND=jetson CUDA=12.6 WANTED=3.10 ;;
        38.2*|38.4*) KIND=jetson CUDA=13.0 WANTED=3.12 ;;
        39.2*) KIND=jetson CUDA=13.2 WANTED=3.12 ;;
        35.*) refuse "JetPack 5 (L4T $release): its TensorRT speaks to Python 3.8 alone; flash JetPack 6" ;;
        32.*) refuse "JetPack 4 (L4T $release): its TensorRT speaks to Python 3.6 alone; flash JetPack 6" ;;
        "")
            [ ! -e "$ROOT/etc/nv_tegra_release" ] || refuse "/etc/nv_tegra_release names no release; known: R36, R38, R39"
            [ "$(uname -m)" = x86_64 ] || refuse "no Jetson, and $(uname -m) is not x86_64: not known here"
            KIND=plain CUDA="" WANTED="" ;;
        *) refuse "L4T $release is not known here (known: 36.2 to 36.5, 38.2, 38.4, 39.2)" ;;
    esac
    echo "found: $KIND${release:+ L4T $release, CUDA $CUDA}"
}

check_python() {
    local version
    version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ -z "$WANTED" ] || [ "$version" = "$WANTED" ] ||
        refuse "python3 is $version; this JetPack's TensorRT is for Python $WANTED: make that the system's python3"
}

install_packages() {
    local packages=(python3-venv)
    if [ "$KIND" = jetson ]; then
        packages+=(python3-dev g++ python3-libnvinfer "cuda-toolkit-${CUDA/./-}")
        if ! python3 -c 'import cv2' 2>/dev/null; then packages+=(python3-opencv); fi
    fi
    run apt-get install -y --no-install-recommends "${packages[@]}"
}

install_venv() {
    local options=() extra=cpu
    if [ "$KIND" = jetson ]; then
        options=(--system-site-packages)
        extra=jetson
        export PATH="/usr/local/cuda-$CUDA/bin:$PATH" CUDA_ROOT="/usr/local/cuda-$CUDA"
    fi
    run python3 -m venv ${options[@]+"${options[@]}"} "$PREFIX"
    if [ "$KIND" = jetson ]; then
        # JetPack's cv2 is built against numpy 1; with numpy 2 its import fails.
        run "$PREFIX/bin/pip" install --upgrade "${HERE}[$extra]" "numpy<2"
        run "$PREFIX/bin/python" -c 'import cv2, tensorrt, sys; sys.exit(any(m.__file__.startswith(sys.prefix) for m in (cv2, tensorrt)))' ||
            refuse "cv2 or tensorrt is missing, or a wheel in $PREFIX shadows the system's: pip uninstall that wheel"
    else
        run "$PREFIX/bin/pip" install --upgrade "${HERE}[$extra]"
    fi
}

install_service() {
    run install -D -m 644 "$HERE/systemd/edgewarden.service" "$UNIT"
    run install -D -m 644 "$HERE/systemd/sysusers.d/edgewarden.conf" "$SYSUSERS"
    run install -D -m 644 "$HERE/systemd/tmpfiles.d/edgewarden.conf" "$TMPFILES"
    if [ "$KIND" = jetson ]; then run install -D -m 644 "$HERE/systemd/drop-ins/jetson.conf" "$DROP_IN"; fi
    run systemd-sysusers "$SYSUSERS"
    if [ ! -e "$CONFIG" ]; then run install -D -m 640 "$HERE/deploy/jetson/agent.toml" "$CONFIG"; fi
    run systemd-tmpfiles --create "$TMPFILES"
    run systemctl daemon-reload
    run systemctl enable edgewarden.service
    run systemctl try-restart edgewarden.service
}

uninstall() {
    if [ -e "$UNIT" ]; then run systemctl disable --now edgewarden.service; fi
    run rm -rf "$PREFIX" "$UNIT" "$DROP_IN" "$SYSUSERS" "$TMPFILES"
    run systemctl daemon-reload
    echo "kept: /etc/edgewarden and /var/lib/edgewarden"
}

[ "$DRY" = 1 ] || [ "$(id -u)" = 0 ] || refuse "needs root: sudo $0"
if [ "$UNINSTALL" = 1 ]; then uninstall; exit; fi
recognise
check_python
install_packages
install_venv
install_service
run "$PREFIX/bin/edgewarden" doctor || echo "doctor found something: see above"
