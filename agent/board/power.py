"""The board's power mode, its clocks and its memory: what nvpmodel, jetson_clocks and swap are set to, and advice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from agent.board.files import found, number, text
from agent.board.finding import Finding
from agent.board.jetson import power_mode

GIB = 1 << 30
SMALL = 9 * GIB
"""A board with less memory than that cannot build a plan beside a running daemon without swap."""
BOOST = re.compile(r"MAXN", re.IGNORECASE)
SWAP_FILE = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
    "  # on an SSD; and a line in /etc/fstab"
)


class Power(NamedTuple):
    """``mode``: in force, empty where there are none; ``modes``: name by number. ``pinned``: whether the processors'
    clocks are held at their highest, None where nobody says. Bytes of ``memory`` and ``swap``; ``zram``: part of it is
    compressed memory."""

    mode: str
    modes: dict[int, str]
    pinned: bool | None
    memory: int
    swap: int
    zram: bool


def read_power(root: Path = Path("/")) -> Power:
    """What the files below the root say. Never raises."""
    info = dict(re.findall(r"(\w+):\s+(\d+) kB", text(root / "proc/meminfo")))
    return Power(
        mode=power_mode(root),
        modes=_modes(text(root / "etc/nvpmodel.conf")),
        pinned=_pinned(root),
        memory=int(info.get("MemTotal", 0)) << 10,
        swap=int(info.get("SwapTotal", 0)) << 10,
        zram="zram" in text(root / "proc/swaps"),
    )


def mode_finding(power: Power) -> Finding:
    """The power mode: speeds belong to it, so it is told even where nothing is wrong with it."""
    if not power.mode:
        return Finding("power mode", "none", "none here")
    best = next((key for key, name in sorted(power.modes.items()) if BOOST.match(name)), None)
    if best is None or BOOST.match(power.mode):
        return Finding("power mode", "ok", power.mode)
    advice = f"sudo nvpmodel -m {best}  # {power.modes[best]}: faster, where supply and cooling allow it; may restart"
    return Finding("power mode", "ok", f"{power.mode} of {', '.join(power.modes.values())}", advice)


def clocks(power: Power, *, jetson: bool) -> Finding:
    """Whether jetson_clocks holds the clocks at their highest."""
    if not jetson or power.pinned is None:
        return Finding("clocks", "none", "not a Jetson's" if not jetson else "nobody says")
    if power.pinned:
        return Finding("clocks", "ok", "held at their highest (jetson_clocks)")
    return Finding("clocks", "ok", "follow the load", "sudo jetson_clocks  # before measuring; the daemon needs it not")


def swap(power: Power, *, jetson: bool) -> Finding:
    """Swap, which a small board needs while plans are built."""
    if not power.memory:
        return Finding("swap", "none", "nobody says")
    total = f"{power.memory / GIB:.1f} GiB of memory"
    if not power.swap and power.memory < SMALL and jetson:
        return Finding("swap", "warn", f"none, for {total}: building a plan may be killed", SWAP_FILE)
    if not power.swap:
        return Finding("swap", "none", f"none, for {total}")
    kind = ", zram alone or in part" if power.zram else ""
    return Finding("swap", "ok", f"{power.swap / GIB:.1f} GiB{kind}, for {total}")


def _modes(configuration: str) -> dict[int, str]:
    found_modes = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\w+)\s*>", configuration, re.MULTILINE)
    return {int(key): name for key, name in found_modes}


def _pinned(root: Path) -> bool | None:
    """jetson_clocks sets the lowest clock that is allowed to the highest."""
    folders = found(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    pairs = [(number(folder / "scaling_min_freq"), number(folder / "scaling_max_freq")) for folder in folders]
    told = [low >= high for low, high in pairs if low is not None and high is not None]
    return all(told) if told else None
