"""What is known of engines on this machine, under their full identity: so far how fast they are.

A speed measured with another graph, backend version, processor or number of threads is another engine's speed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from pathlib import Path

import msgspec

from agent.errors import AgentError

CACHE_VARIABLE = "EDGEWARDEN_CACHE"
SCHEMA = 1


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides how an engine computes: ``onnx`` is the graph's SHA-256, ``options`` how it is run."""

    onnx: str
    backend: str
    device: str
    options: str
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """A name for files: the SHA-256 of all of it."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds`` an inference, ``speedup`` against the fp32 graph that was measured in the same run; ``rates``:
    pictures a second by batch, where more than one was measured."""

    identity: Identity
    seconds: float
    speedup: float
    rates: dict[int, float] = {}


class SpeedStore:
    """Measured speeds, one JSON file an identity, in ``folder`` (by default the user's XDG cache folder)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_dir()) / "speeds"

    def get(self, identity: Identity) -> Speed | None:
        """What was measured of this very engine; None where nothing was, or what is there cannot be read."""
        try:
            speed = msgspec.json.decode((self.folder / f"{identity.key}.json").read_bytes(), type=Speed)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return speed if speed.identity == identity else None

    def put(self, speed: Speed) -> None:
        """Remember it. Raises AgentError where the folder cannot be written."""
        target = self.folder / f"{speed.identity.key}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
                part.write(msgspec.json.encode(speed))
            Path(part.name).replace(target)
        except OSError as error:
            raise AgentError(f"{target}: cannot be written: {error.strerror}") from None


def cache_dir() -> Path:
    """Where this machine's measurements are kept: ``$EDGEWARDEN_CACHE``, else the user's XDG cache folder."""
    if directory := os.environ.get(CACHE_VARIABLE):
        return Path(directory).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgewarden"


def processor() -> str:
    """The processor's name, how many of its cores this process may use, and a hash of what it can do: many that differ
    are called ``Intel(R) Xeon(R) Processor`` by a cloud."""
    name = _said(("model name", "Model")) or platform.processor() or platform.machine()
    able = hashlib.sha256(_said(("flags", "Features")).encode()).hexdigest()[:8]
    return f"{name}, {len(os.sched_getaffinity(0))} core(s), features {able}"


def _said(keys: tuple[str, ...]) -> str:
    """The first value of one of these in /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(keys) and ":" in line), "")
