"""The facts that ``doctor`` gathers of the machine: from its files, from systemd, and through other rooms' readers.

What is installed is doctor_software.py's.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.board.finding import Finding
    from agent.board.sensing import Sensed

PATIENCE = 5.0
"""Seconds for a question to systemd."""
TIME_ERROR = 5
"""What adjtimex(2) returns for a clock that nobody synchronises."""


def power_findings(root: Path, *, jetson: bool) -> Iterator[Finding]:
    """Power mode, clocks and swap."""
    from agent.board import power

    known = power.read_power(root)
    yield power.mode_finding(known)
    yield power.clocks(known, jetson=jetson)
    yield power.swap(known, jetson=jetson)


def room_findings(folder: Path, root: Path) -> Iterator[Finding]:
    """Memory now, the disk of the state folder, and the plans."""
    from agent.board.storage import disk, read_storage

    yield memory()
    yield disk(read_storage(folder, root))
    yield plans()


def clock_findings(root: Path, *, container: bool) -> Iterator[Finding]:
    """The wall clock."""
    from agent.board.clock import clock, read_clock

    yield clock(read_clock(root, time.time(), synced=kernel_synced()), container=container)


def camera_findings(root: Path, *, jetson: bool, container: bool) -> Iterator[Finding]:
    """The cameras of this machine."""
    from agent.board.camera_findings import cameras
    from agent.board.cameras import read_cameras

    yield from cameras(read_cameras(root), jetson=jetson, container=container)


def sensor_findings(root: Path, *, jetson: bool, limited: bool) -> Iterator[Finding]:
    """What the governor goes by."""
    from agent.board import sensing
    from agent.board.cuda_driver import ask_driver

    yield from sensing.sensor_findings(
        read_sensors(root), jetson=jetson, has_gpu=bool(ask_driver().gpus), limited=limited
    )


def service_findings(root: Path) -> Iterator[Finding]:
    """The systemd unit."""
    from agent.board.unit import NAME, PROPERTIES, properties, read_unit, unit_findings

    told = ask_systemd(root, NAME, PROPERTIES)
    manager = properties(ask_systemd(root, "", "RuntimeWatchdogUSec") or "")
    fed = manager.get("RuntimeWatchdogUSec", "0") not in ("0", "", "infinity")
    yield from unit_findings(read_unit(root, None if told is None else properties(told), fed=fed))


def read_sensors(root: Path) -> Sensed:
    """One reading of every sensor that the governor would have."""
    from agent.board.sensing import Sensed, Zone
    from agent.governor.sensors.board import board_sensors
    from agent.governor.sensors.sysfs import Sysfs

    zones: dict[str, Zone] = {}
    rails: dict[str, float] = {}
    power = gpu = None
    for sensor in board_sensors(Sysfs(root)).values():
        try:
            told = sensor.read()
        except OSError:
            continue  # what one sensor cannot say now, the others still do
        for name, zone in told.temperatures.items():
            zones.setdefault(name, Zone(zone.celsius, zone.passive, zone.critical))
        rails = {**told.rails, **rails}
        power = power if power is not None else told.power_w
        gpu = gpu if gpu is not None else told.gpu_load
    return Sensed(zones, rails, power, gpu)


def ask_systemd(root: Path, unit: str, wanted: str) -> str | None:
    """``systemctl show``; None where systemd does not run (or is another root's) or does not answer."""
    if root != Path("/") or not os.path.exists("/run/systemd/system") or shutil.which("systemctl") is None:
        return None
    command = ["systemctl", "show", "--no-pager", "-p", wanted, *([unit] if unit else [])]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None


def kernel_synced() -> bool:
    """Whether the kernel's clock is kept by somebody, by adjtimex(2), which changes nothing when nothing is set."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return False
    return 0 <= int(state) < TIME_ERROR


def memory() -> Finding:
    """Whether what is free suffices to build plans."""
    from agent.board.finding import Finding
    from agent.engines.build_room import BASE_MEMORY, free_memory

    free = free_memory()
    told = f"{free >> 20} MB free"
    if free >= BASE_MEMORY:
        return Finding("memory", "ok", told)
    return Finding("memory", "warn", f"{told}: too little to build plans", "stop what else runs, or add swap")


def plans() -> Finding:
    """The store of TensorRT plans."""
    from agent.board.finding import Finding
    from agent.engines.build_room import free_disk
    from agent.engines.plan_store import PlanStore
    from agent.engines.plan_trust import folder_fault

    store = PlanStore()
    if store.folder.exists() and (fault := folder_fault(store.folder)):
        return Finding("plans", "warn", fault, f"chmod go-w {store.folder}")
    told = f"{len(store.records())} in {store.folder}, {free_disk(store.folder) >> 20} MB free there"
    return Finding("plans", "ok", told)
