"""Where the benchmarks find the material, keep what they make once, and find the peers' environments."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MADE = "made"
"""A file of this name in an environment says that all of it is there."""
RATIOS = REPOSITORY / "benchmarks" / "ratios.json"


def material_folder() -> Path:
    """Real detectors and clips: ``$EDGEWARDEN_MATERIAL``, or beside the checkout, as for the tests."""
    return Path(os.environ.get("EDGEWARDEN_MATERIAL") or REPOSITORY.parent / "shared" / "material")


def kept_folder() -> Path:
    """What is made once and used again (models, scaled clips, environments): ``$EDGEWARDEN_BENCH``."""
    return Path(os.environ.get("EDGEWARDEN_BENCH") or REPOSITORY / ".bench")


def peers_folder() -> Path:
    """The peers' virtual environments, one folder each."""
    return kept_folder() / "peers"


def peer_python(name: str) -> Path | None:
    """The interpreter of a peer's environment; None where it was not made, or not to its end (peers/make.py)."""
    python = peers_folder() / name / "bin" / "python"
    return python if (peers_folder() / name / MADE).exists() and python.exists() else None
