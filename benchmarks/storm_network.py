"""The cable between the agent and the broker: two network namespaces of the storm's own, joined by a veth pair.

Packets are lost and the cable is cut by nftables rules within the namespace. Everything vanishes with its processes:
no address, interface or rule of the machine is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BROKER = "10.77.0.1"
AGENT = "10.77.0.2"
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])
INSIDE = "EDGEWARDEN_STORM_INSIDE"


def program(name: str) -> str:
    """Its path; FileNotFoundError with its name when it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def obstacle() -> str:
    """Why there can be no network of our own here; empty when there can."""
    try:
        tools = [program(name) for name in ("unshare", "nsenter", "ip", "nft")]
    except FileNotFoundError as error:
        return str(error)
    rules = "add table inet probe; add chain inet probe in { type filter hook input priority 0; }; "
    rules += "add rule inet probe in numgen random mod 100 < 50 drop"
    tried = subprocess.run([*_unshare(), tools[3], rules], capture_output=True, text=True, check=False)
    return (tried.stderr.strip().splitlines() or ["no right to make one"])[0] if tried.returncode else ""


def enter() -> None:
    """Start this program anew in a network namespace of its own, unless it is in one."""
    if os.environ.get(INSIDE) != "1":
        os.environ[INSIDE] = "1"
        command = [*_unshare(), sys.executable, *sys.argv]
        os.execv(command[0], command)


def _unshare() -> list[str]:
    return [program("unshare"), "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]


class Network:
    """The second namespace and the cable to it; a context manager. To be used after ``enter``."""

    def __enter__(self) -> Network:
        ours = os.readlink("/proc/self/ns/net")
        # It ends by itself when we do: its input ends.
        self._holder = subprocess.Popen([program("unshare"), "--net", program("cat")], stdin=subprocess.PIPE)
        while _namespace(self._holder.pid) in (ours, ""):
            time.sleep(0.01)
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "edge0", "type", "veth", "peer", "name", "edge1", "netns", str(self._holder.pid))
        self._ip("address", "add", f"{BROKER}/30", "dev", "edge0")
        self._ip("link", "set", "edge0", "up")
        far = (f"address add {AGENT}/30 dev edge1", "link set edge1 up", "link set lo up")
        for words in far:
            subprocess.run([*self.prefix(), program("ip"), *words.split()], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()

    def prefix(self) -> list[str]:
        """What to write before a command so that it runs at the agent's end of the cable."""
        return [program("nsenter"), f"--net=/proc/{self._holder.pid}/ns/net"]

    def lose(self, percent: int) -> None:
        """Drop so many of a hundred packets, each way; 100 cuts the cable. Nobody is told."""
        chance = "" if percent >= 100 else f"numgen random mod 100 < {percent} "
        rules = ["add table inet storm"]
        for hook, match in (("input", "iifname"), ("output", "oifname")):
            rules.append(f"add chain inet storm {hook} {{ type filter hook {hook} priority 0; }}")
            rules.append(f'add rule inet storm {hook} {match} "edge0" {chance}drop')
        self._nft("\n".join(rules) + "\n")

    def heal(self) -> None:
        """Drop nothing any more."""
        self._nft("delete table inet storm\n")

    def _ip(self, *words: str) -> None:
        subprocess.run([program("ip"), *words], check=True)

    def _nft(self, rules: str) -> None:
        subprocess.run([program("nft"), "-f", "-"], input=rules, text=True, check=True)


class NoNetwork:
    """Everything on the machine's own loopback: nothing can be lost or cut."""

    def __enter__(self) -> NoNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def prefix(self) -> list[str]:
        """Nothing."""
        return []

    def lose(self, percent: int) -> None:
        """Not here."""
        raise NotImplementedError("there is no cable to lose packets on")

    def heal(self) -> None:
        """Nothing to heal."""


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def run_at(prefix: Sequence[str], command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process at an end of the cable; what it says goes to a file. It ends when its input does."""
    with log.open("ab") as sink:
        return subprocess.Popen([*prefix, *command], stdin=subprocess.PIPE, stdout=sink, stderr=sink)
