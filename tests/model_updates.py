"""Packages of one name that differ, for tests of updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from graphs import brightness_graph

from agent.detection.manifest import InputSpec, Manifest, Variant
from agent.detection.model import ModelPackage, write_package

SIZE = (64, 48)
BOX = (8.0, 8.0, 40.0, 40.0)


def package(
    folder: Path,
    name: str = "street",
    *,
    score: float = 0.9,
    version: int = 1,
    label: str = "person",
    size: tuple[int, int] = SIZE,
) -> ModelPackage:
    """``folder/NAME``: a model that sees one person, with that score, in every picture. ``version`` makes it another
    file, a large ``size`` a slow one."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.zeros((10, 6), np.float32)
    rows[0] = (*BOX, score, 0)
    rows[1] = (0, 0, 1, 1, version * 1e-6, 0)
    graph = brightness_graph(folder / f".{name}-{version}.onnx", rows, size=size)
    manifest = Manifest(
        name=name,
        family="end2end",
        labels=(label,),
        input=InputSpec(size=size),
        variant=(Variant(precision="fp32", file=f"{name}.onnx", sha256="0" * 64),),
    )
    made = write_package(folder, manifest, {f"{name}.onnx": graph})
    graph.unlink()
    return made
