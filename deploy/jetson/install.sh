#!/bin/bash
# Installs edgewarden as a service on a Jetson (JetPack 6 and 7) or on a plain Debian or Ubuntu; may be run again, which
# is how it is upgraded. On a Jetson the environment sees JetPack's TensorRT and OpenCV, and no wheel may shadow them.
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
        *) echo "install.sh: unknown option $argument" >&2; usage >&2; exit 2 ;;
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
SAMPLE=$HERE/deploy/jetson/agent.toml

refuse() { echo "install.sh: $*" >&2; exit 1; }

run() {
    echo "+ $*"
    if [ "$DRY" = 0 ]; then "$@"; fi
}

# 36.4.3 from "# R36 (release), REVISION: 4.3, ..." or else from the version of nvidia-l4t-core; empty: neither is there.
l4t() {
    local file=$ROOT/etc/nv_tegra_release
    if [ -r "$file" ]; then
        sed -nE '1s/^# R([0-9]+) \(release\), REVISION: ([0-9.]+).*/\1.\2/p' "$file"
    else
        dpkg-query -W -f '${Version}' nvidia-l4t-core 2>/dev/null | sed -E 's/-.*//' || true
    fi
}

is_tegra() {
    [ -e "$ROOT/etc/nv_tegra_release" ] || grep -qa 'nvidia,tegra' "$ROOT/proc/device-tree/compatible" 2>/dev/null
}

# Sets KIND, CUDA and WANTED (the Python that TensorRT's bindings are for). The table is agent/board/jetpack.py's, and a
# test holds them together.
recognise() {
    local release
    release=$(l4t)
    case $release in
        36.[23]|36.[23].*) KIND=jetson CUDA=12.2 WANTED=3.10 ;;
        36.[45]|36.[45].*) KIND=jetson CUDA=12.6 WANTED=3.10 ;;
        38.[24]|38.[24].*) KIND=jetson CUDA=13.0 WANTED=3.12 ;;
        39.2|39.2.*) KIND=jetson CUDA=13.2 WANTED=3.12 ;;
        34.*|35.*) refuse "JetPack 5 (L4T $release): its TensorRT speaks to Python 3.8 alone; flash JetPack 6" ;;
        32.*) refuse "JetPack 4 (L4T $release): its TensorRT speaks to Python 3.6 alone; flash JetPack 6" ;;
        "")
            ! is_tegra || refuse "a Jetson whose /etc/nv_tegra_release names no release; known: R36, R38, R39"
            case $(uname -m) in
                x86_64|aarch64) KIND=plain CUDA="" WANTED="" ;;
                *) refuse "$(uname -m) is not known here (known: x86_64, aarch64)" ;;
            esac ;;
        *) refuse "L4T $release is not known here (known: 36.2 to 36.5, 38.2, 38.4, 39.2)" ;;
    esac
    echo "found: $KIND${release:+ L4T $release, CUDA $CUDA}"
}

check_python() {
    local version
    version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || refuse "no python3: apt-get install python3"
    if [ -n "$WANTED" ] && [ "$version" != "$WANTED" ]; then
        refuse "python3 is $version; this JetPack's TensorRT is for Python $WANTED: make that the system's python3"
    fi
    case $version in
        2.*|3.[0-9]) refuse "python3 is $version; edgewarden needs 3.10 or newer" ;;
    esac
}

check_others() {
    if [ "$(status_of edgewarden)" = installed ]; then
        refuse "the package edgewarden is installed, all this is its business: apt-get install, remove (which keeps configuration and state)"
    fi
}

status_of() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true; }

install_packages() {
    local wanted=(python3-venv) missing=() package
    if [ "$KIND" = jetson ]; then
        wanted+=(python3-dev g++ python3-libnvinfer)
        # pycuda is compiled against the board's CUDA: the one that is there, else JetPack's.
        if [ ! -x "$ROOT/usr/local/cuda-$CUDA/bin/nvcc" ]; then wanted+=("cuda-toolkit-${CUDA/./-}"); fi
        # NVIDIA's, not python3-opencv, which is Ubuntu's: too old, and without the board's decoders.
        if ! python3 -c 'import cv2' 2>/dev/null; then wanted+=(libopencv-python); fi
    fi
    for package in "${wanted[@]}"; do
        if [ "$(status_of "$package")" != installed ]; then missing+=("$package"); fi
    done
    if [ ${#missing[@]} = 0 ]; then return; fi
    run apt-get update
    run apt-get install -y --no-install-recommends "${missing[@]}"
}

# A copy, since pip leaves its build beside what it builds, and the next one would take up what was deleted meanwhile.
copy_source() {
    SOURCE=$(mktemp -d)
    trap 'rm -rf "$SOURCE"' EXIT
    local name
    for name in agent plugins setup.cfg pyproject.toml README.md LICENSE; do cp -r "$HERE/$name" "$SOURCE"; done
}

install_venv() {
    local options=()
    if [ "$KIND" = jetson ]; then options+=(--system-site-packages); fi
    # Made for a Python that is no longer the system's: made anew.
    if [ -e "$PREFIX/bin/python3" ] && ! "$PREFIX/bin/python3" -c 'import pip' 2>/dev/null; then options+=(--clear); fi
    run python3 -m venv ${options[@]+"${options[@]}"} "$PREFIX"
    copy_source
    if [ "$KIND" = jetson ]; then
        export PATH="/usr/local/cuda-$CUDA/bin:$PATH" CUDA_ROOT="/usr/local/cuda-$CUDA"
        # JetPack's cv2 is built against numpy 1; with numpy 2 its import fails. ONNX Runtime works while TensorRT builds.
        run "$PREFIX/bin/pip" install --upgrade "${SOURCE}[jetson,signed]" onnxruntime "numpy<2"
        run "$PREFIX/bin/python" -c 'import cv2, tensorrt, sys; sys.exit(any(m.__file__.startswith(sys.prefix) for m in (cv2, tensorrt)))' ||
            refuse "cv2 or tensorrt is missing, or a wheel in $PREFIX shadows the system's: pip uninstall that wheel"
    else
        run "$PREFIX/bin/pip" install --upgrade "${SOURCE}[cpu,signed]"
    fi
}

install_service() {
    run install -D -m 644 "$HERE/systemd/edgewarden.service" "$UNIT"
    run install -D -m 644 "$HERE/systemd/sysusers.d/edgewarden.conf" "$SYSUSERS"
    run install -D -m 644 "$HERE/systemd/tmpfiles.d/edgewarden.conf" "$TMPFILES"
    if [ "$KIND" = jetson ]; then run install -D -m 644 "$HERE/systemd/drop-ins/jetson.conf" "$DROP_IN"; fi
    run systemd-sysusers "$SYSUSERS"
    if [ ! -e "$CONFIG" ]; then run install -D -m 640 "$SAMPLE" "$CONFIG"; fi
    run systemd-tmpfiles --create "$TMPFILES"
    run systemctl daemon-reload
    run systemctl enable edgewarden.service
}

# What runs is replaced if the new version understands the configuration; else it goes on watching.
restart() {
    local load='import sys, pathlib, agent.config; agent.config.load(pathlib.Path(sys.argv[1]))'
    if run "$PREFIX/bin/python" -c "$load" "$CONFIG"; then
        run systemctl try-restart edgewarden.service
    else
        echo "install.sh: $CONFIG is not for this version (see above); not restarted: correct it, then" \
            "systemctl restart edgewarden" >&2
    fi
}

# Leaves the state, and of the configuration what somebody has written: an agent.toml that was edited, and secrets.
uninstall() {
    check_others
    if [ -e "$UNIT" ]; then run systemctl disable --now edgewarden.service; fi
    run rm -rf "$PREFIX" "$ROOT/var/cache/edgewarden" "$ROOT/run/edgewarden" "$UNIT" "$DROP_IN" "$SYSUSERS" "$TMPFILES"
    if cmp -s "$SAMPLE" "$CONFIG"; then run rm "$CONFIG"; fi
    local folder
    for folder in "$UNIT.d" "$ROOT/etc/edgewarden/credentials" "$ROOT/etc/edgewarden"; do
        if [ -d "$folder" ]; then run rmdir --ignore-fail-on-non-empty "$folder"; fi
    done
    run systemctl daemon-reload
    for folder in "$UNIT.d" "$ROOT/etc/edgewarden" "$ROOT/var/lib/edgewarden"; do
        if [ -e "$folder" ]; then echo "kept: $folder"; fi
    done
    echo "kept: the user edgewarden, who owns that"
}

[ "$DRY" = 1 ] || [ "$(id -u)" = 0 ] || refuse "needs root: sudo $0"
if [ "$UNINSTALL" = 1 ]; then uninstall; exit; fi
[ -e "$HERE/setup.cfg" ] || refuse "$HERE is no checkout of edgewarden: git clone it and run deploy/jetson/install.sh there"
command -v apt-get >/dev/null || refuse "no apt-get: neither a Jetson nor a Debian or Ubuntu"
recognise
check_python
check_others
install_packages
install_venv
install_service
restart
run "$PREFIX/bin/edgewarden" doctor || echo "doctor found something: see above"
echo "next: edit $CONFIG, then systemctl start edgewarden"
