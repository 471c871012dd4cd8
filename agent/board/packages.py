"""Whether the Python packages here fit together and hide nothing of the system's. Pure; the command looks them up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent.board.files import found
from agent.board.finding import Finding

HEADLESS = "opencv-python-headless"
WHEELS = ("opencv-python", HEADLESS, "opencv-contrib-python", "opencv-contrib-python-headless")
OLDEST, NEWEST = (3, 10), (3, 13)
SYSTEM_OPENCV = ("usr/lib/python3*/dist-packages/cv2*", "usr/lib/python3*/dist-packages/cv2/python-3*")


class Packages(NamedTuple):
    """``python``: its version; ``versions``: of the packages installed, by name. ``opencv_fault``: why it cannot be
    imported. ``system_opencv``: whether the system's Python has one; ``opencv_file``: which is imported here."""

    python: tuple[int, ...]
    versions: Mapping[str, str]
    opencv_fault: str = ""
    system_opencv: bool = False
    opencv_file: str = ""


def has_system_opencv(root: Path) -> bool:
    """Whether the system's own packages bring OpenCV."""
    return bool(found(root, *SYSTEM_OPENCV))


def python(packages: Packages) -> Finding:
    """The interpreter."""
    version = ".".join(map(str, packages.python[:3]))
    if OLDEST <= packages.python[:2] <= NEWEST:
        return Finding("Python", "ok", version)
    wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    return Finding(
        "Python", "warn", f"{version}; tried with {wanted}", f"python3.{OLDEST[1]} -m venv .venv  # or up to 3.13"
    )


def numpy(packages: Packages, *, jetson: bool) -> Finding:
    """numpy and OpenCV: one that was built for numpy 1, as JetPack's, cannot be imported beside numpy 2."""
    version = packages.versions.get("numpy", "")
    if not version:
        return Finding("numpy", "missing", "not installed", "pip install 'numpy<2'" if jetson else "pip install numpy")
    if packages.opencv_fault and not version.startswith("1.") and about_numpy(packages.opencv_fault):
        return Finding("numpy", "warn", f"{version}, and this OpenCV was built for numpy 1", "pip install 'numpy<2'")
    return Finding("numpy", "ok", version)


def wheels(packages: Packages, *, jetson: bool) -> Finding:
    """OpenCV's wheels: they overwrite each other, and in an environment they hide the system's OpenCV."""
    what, present = "OpenCV wheels", [name for name in WHEELS if name in packages.versions]
    told = ", ".join(f"{name} {packages.versions[name]}" for name in present)
    if len(present) > 1:
        own = (
            "sudo apt-get install -y --reinstall libopencv-python  # JetPack's" if jetson else f"pip install {HEADLESS}"
        )
        advice = f"pip uninstall -y {' '.join(present)} && {own}"
        return Finding(what, "warn", f"{told}: they overwrite each other's files", advice)
    if present and jetson and packages.system_opencv:
        return Finding(what, "warn", f"{told} hides JetPack's own", f"pip uninstall -y {present[0]}")
    if not present:
        return Finding(what, "none", packages.opencv_file or "none")
    return Finding(what, "ok", told)


def about_numpy(fault: str) -> bool:
    """Whether this is how an OpenCV fails that was built for another numpy."""
    return any(word in fault for word in ("numpy", "_ARRAY_API", "multiarray"))
