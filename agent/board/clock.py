"""Whether the wall clock can be believed: events carry its time, alerts have hours, certificates expire by it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agent.board.files import is_there
from agent.board.finding import Finding

SERVICES = ("systemd-timesyncd", "chrony", "chronyd", "ntpd", "ntpsec", "ntp", "openntpd")
LATER_THAN = 1735689600.0
"""2025: no clock that was ever set says less."""


class Clock(NamedTuple):
    """``wall``: UNIX seconds; ``synced``: by the kernel's word or systemd's; ``service``: what is installed to do it.
    ``rtc``: whether there is a clock that goes on without power; ``systemd``: whether timedatectl has somebody to
    ask."""

    wall: float
    synced: bool
    service: str
    rtc: bool
    systemd: bool


def read_clock(root: Path, wall: float, *, synced: bool) -> Clock:
    """What the files below the root say beside the kernel's own word, ``synced``. Never raises."""
    folders = ("lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system")
    installed = (name for name in SERVICES for folder in folders if is_there(root / folder / f"{name}.service"))
    return Clock(
        wall=wall,
        synced=synced or is_there(root / "run/systemd/timesync/synchronized"),
        service=next(installed, ""),
        rtc=is_there(root / "dev/rtc0") or is_there(root / "sys/class/rtc/rtc0"),
        systemd=is_there(root / "run/systemd/system"),
    )


def clock(known: Clock, *, container: bool) -> Finding:
    """Whether it is set by somebody, and set at all."""
    battery = "" if known.rtc else "; no real-time clock: it starts wrong after each loss of power"
    if known.synced and known.wall >= LATER_THAN:
        return Finding("clock", "ok", f"synchronised{battery}")
    wrong = "" if known.wall >= LATER_THAN else ", and it stands before 2025"
    told = f"not synchronised{wrong}{battery}"
    if container:
        return Finding("clock", "warn", told, "on the host, not in the container: sudo timedatectl set-ntp true")
    if not known.service:
        return Finding(
            "clock", "warn", told, "sudo apt-get install -y systemd-timesyncd && sudo timedatectl set-ntp true"
        )
    how = "sudo timedatectl set-ntp true" if known.systemd else f"start {known.service}"
    return Finding("clock", "warn", told, f"{how}  # and let UDP port 123 out, or name a time server of your network")
