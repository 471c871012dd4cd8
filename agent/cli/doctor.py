"""``edgewarden doctor``: what this machine is, what runs on it, what is missing and the command that installs it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.board.findings import Finding, Software

PRECISIONS = ("fp16", "int8")
SYSTEM_TENSORRT = ("usr/lib/python3/dist-packages/tensorrt", "usr/lib/python3.*/dist-packages/tensorrt")
STALE_SECONDS = 30.0


@click.command(name="doctor")
@click.option(
    "--config", "-c", "path", type=click.Path(path_type=Path), help="Also say what the daemon of it does now."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(path: Path | None, as_json: bool) -> None:
    """Say what this machine is, what runs on it, what is missing and how to install it.

    Nothing is changed and no camera is opened. Exits 1 when something is missing that this machine should have.
    """
    from agent.errors import AgentError

    findings = list(gathered(Path("/"), path))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        _show(findings)
    missing = [finding.what for finding in findings if finding.state == "missing"]
    if missing:
        raise AgentError(f"missing: {', '.join(missing)}; the lines with an arrow (->) say what to do")


def gathered(root: Path, config: Path | None) -> Iterator[Finding]:
    """All findings on the machine whose files lie below ``root``."""
    from agent.board import findings
    from agent.board.cuda_driver import ask_driver
    from agent.board.jetson import read_jetson

    jetson, driver, software = read_jetson(root), ask_driver(), _software(root)
    has_gpu = bool(driver.gpus)
    container = (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()
    yield findings.machine(jetson, f"{platform.system().lower()} {platform.machine()}", platform.python_version())
    yield findings.power(jetson)
    yield findings.gpu(driver, jetson, _native(driver.gpus[0].capability) if has_gpu else "", container=container)
    yield findings.cuda_driver(driver)
    yield findings.tensorrt(software, jetson, has_gpu)
    yield findings.pycuda(software, jetson, has_gpu)
    yield findings.onnxruntime(software)
    yield findings.opencv(software, jetson)
    yield _memory()
    yield _plans()
    if config is not None:
        yield _daemon(config)


def _software(root: Path) -> Software:
    from agent.board.findings import Software
    from agent.engines.flavour import fault, installed

    tensorrt_fault = fault()
    opencv, gstreamer = _opencv()
    onnxruntime, providers = _onnxruntime()
    return Software(
        tensorrt="" if tensorrt_fault else installed().backend,
        tensorrt_fault=tensorrt_fault,
        in_system=any(any(root.glob(pattern)) for pattern in SYSTEM_TENSORRT),
        venv=sys.prefix != sys.base_prefix,
        pycuda=_version("pycuda"),
        onnxruntime=onnxruntime,
        providers=providers,
        opencv=opencv,
        gstreamer=gstreamer,
    )


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _opencv() -> tuple[str, bool]:
    try:
        import cv2
    except ImportError:
        return "", False
    line = next((line for line in cv2.getBuildInformation().splitlines() if "GStreamer" in line), "")
    return cv2.__version__, "YES" in line


def _onnxruntime() -> tuple[str, tuple[str, ...]]:
    try:
        import onnxruntime
    except ImportError:
        return "", ()
    return onnxruntime.__version__, tuple(onnxruntime.get_available_providers())


def _native(capability: tuple[int, int]) -> str:
    from agent.precision.match import not_native

    return ", ".join(["fp32", *(name for name in PRECISIONS if not not_native(name, capability))])


def _memory() -> Finding:
    from agent.board.findings import Finding
    from agent.engines.build_room import BASE_MEMORY, free_memory

    free = free_memory()
    found = f"{free >> 20} MB free"
    if free >= BASE_MEMORY:
        return Finding("memory", "ok", found)
    return Finding("memory", "warn", f"{found}: too little to build plans", "stop what else runs, or add swap")


def _plans() -> Finding:
    from agent.board.findings import Finding
    from agent.engines.build_room import free_disk
    from agent.engines.plan_store import PlanStore
    from agent.engines.plan_trust import folder_fault

    store = PlanStore()
    if store.folder.exists() and (fault := folder_fault(store.folder)):
        return Finding("plans", "warn", fault, f"chmod go-w {store.folder}")
    records = store.records()
    found = f"{len(records)} in {store.folder}, {free_disk(store.folder) >> 20} MB free there"
    return Finding("plans", "ok", found, "")


def _daemon(path: Path) -> Finding:
    """What the daemon has chosen, and why, from the status that it writes."""
    from agent.board.findings import Finding
    from agent.config import load

    status = load(path).state_dir / "status.json"
    try:
        told = json.loads(status.read_bytes())
        health, age = told["health"], time.time() - status.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return Finding("agent", "none", f"{status}: no daemon has written it; edgewarden run --config {path}")
    found = f"{_running(told, age)}: {_engine(health)}"
    return Finding("agent", "ok" if age < STALE_SECONDS else "warn", found)


def _running(told: dict[str, Any], age: float) -> str:
    pid = told.get("pid")
    alive = isinstance(pid, int) and os.path.exists(f"/proc/{pid}")
    return f"running (pid {pid})" if alive and age < STALE_SECONDS else f"not running since {age:.0f} s"


def _engine(health: dict[str, Any]) -> str:
    why = f"; {health['choice']}" if health.get("choice") else ""
    each = "; ".join(f"{name}: {told}" for name, told in health.get("precisions", {}).items())
    return f"{health.get('precision')} on {health.get('backend')}{why}" + (f" [{each}]" if each else "")


def _show(findings: list[Finding]) -> None:
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = {"ok": "ok", "missing": "MISSING", "warn": "look", "none": "-"}[finding.state]
        click.echo(f"{mark:8} {finding.what.ljust(width)}  {finding.found}")
        if finding.advice:
            click.echo(f"{'':8} {'':{width}}  -> {finding.advice}")
