"""What a Jetson's files say of it: model, Linux for Tegra, power mode. Empty on other machines.

What is installed on it, and what should be, is doctor's business; temperatures and loads are the governor's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from agent.board.files import text

ROOT = Path("/")


class Jetson(NamedTuple):
    """``model``: as the device tree says it; ``l4t``: ``36.4.3``; ``mode``: of power, ``MAXN_SUPER`` or a number."""

    model: str
    l4t: str
    mode: str


def read_jetson(root: Path = ROOT) -> Jetson:
    """Read the files below ``root``. Never raises."""
    model = text(root / "proc/device-tree/model") or text(root / "sys/firmware/devicetree/base/model")
    return Jetson(model, _l4t(root), power_mode(root))


def power_mode(root: Path = ROOT) -> str:
    """The power mode in force: its name where nvpmodel.conf has one, else its number; empty on other machines."""
    number = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status"))
    if number is None:
        return ""
    names = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\w+)\s*>", text(root / "etc/nvpmodel.conf"))
    named = {int(found): str(name) for found, name in names}
    return named.get(int(number[1]), str(int(number[1])))


def _l4t(root: Path) -> str:
    """``# R36 (release), REVISION: 4.3, …``"""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text(root / "etc/nv_tegra_release"))
    return f"{match[1]}.{match[2]}" if match else ""
