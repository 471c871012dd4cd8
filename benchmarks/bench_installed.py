"""How much disk the program takes with all that it requires and no extras: a virtual environment made once and kept,
anew when what is required changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench_places import REPOSITORY, kept_folder
from bench_process import ContestantError, run_quietly
from bench_rooms import Bench
from bench_rows import Row

MOST_MB = 400.0
INSTALLS_WITHIN = 240.0
NOT_COPIED = (".*", "__pycache__", "*.egg-info", "build", "dist", "tests", "benchmarks", "docs", "demo-output")


def installed(bench: Bench) -> None:
    """Megabytes of all files in it, pip's own with them."""
    cache = kept_folder() / "installed.json"
    wanted = _required()
    found = _remembered(cache)
    if found.get("required") != wanted:
        bench.say("installing into a fresh environment, to see what it takes")
        found = {"required": wanted, "mb": round(_measured(), 1)}
        cache.write_text(json.dumps(found) + "\n", encoding="utf-8")
    megabytes = float(str(found["mb"]))
    bench.groups["installed"] = {"mb": megabytes, "python": sys.version.split()[0]}
    bench.add(Row("installed, no extras", "installed environment without extras", megabytes, "MB", MOST_MB))


def _required() -> str:
    """A name for what would be installed."""
    what = (REPOSITORY / "setup.cfg").read_bytes() + (REPOSITORY / "pyproject.toml").read_bytes()
    return f"{sys.version_info[0]}.{sys.version_info[1]} {hashlib.sha256(what).hexdigest()}"


def _remembered(cache: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _measured() -> float:
    with tempfile.TemporaryDirectory(prefix="installed-", dir=kept_folder()) as name:
        folder = Path(name)
        source = folder / "source"
        shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(*NOT_COPIED))
        run_quietly([sys.executable, "-m", "venv", folder / "venv"], INSTALLS_WITHIN)
        run_quietly([folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", source], INSTALLS_WITHIN)
        run_quietly([folder / "venv" / "bin" / "edgewarden", "--help"], 60.0)
        return _bytes_in(folder / "venv") / 1e6


def _bytes_in(folder: Path) -> int:
    """Of its files, each once; links are not followed."""
    total, seen = 0, set[tuple[int, int]]()
    for place, _, names in os.walk(folder):
        for name in names:
            about = os.lstat(os.path.join(place, name))
            if (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                total += about.st_size
    if not total:
        raise ContestantError(f"{folder}: nothing was installed")
    return total
