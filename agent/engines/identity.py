"""What decides which plan is the right one: the identity that stands beside each plan, and how two of them differ.

Pure. Where the facts come from (the graph, the library, the GPU) is the callers' business.
"""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec

from agent.engines.onnx_file import content_hash

SCHEMA = 1


class PlanIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two plans of equal identity are interchangeable; in anything else one of them is refused.

    ``onnx``: hash of the graph and its external weights. ``backend``: the library and its full version. ``gpu``: the
    device's name, empty where ``capability`` is a target that was asked for. ``system``: OS and architecture.
    ``calibration``: hash of the pictures an int8 graph was calibrated with. ``shapes``: the optimization profile.
    ``options``: the builder's, as text.
    """

    onnx: str
    backend: str
    gpu: str
    capability: str
    system: str
    precision: str
    calibration: str | None
    shapes: str
    options: str
    schema: int = SCHEMA


_WORDS = {
    "onnx": "of another ONNX file",
    "backend": "built by {built}, here is {here}",
    "gpu": "built on {built}, here is {here}",
    "capability": "built for compute capability {built}, here is {here}",
    "system": "built on {built}, here is {here}",
    "precision": "of precision {built}, not {here}",
    "calibration": "calibrated with other pictures",
    "shapes": "built for {built}, wanted is {here}",
    "options": "built with {built}, wanted is {here}",
    "schema": "of store format {built}, here is {here}",
}


def differences(built: PlanIdentity, here: PlanIdentity) -> list[str]:
    """In words, each thing in which a plan is not the one that is wanted; empty for the right one."""
    pairs = [(field, getattr(built, field), getattr(here, field)) for field in PlanIdentity.__struct_fields__]
    return [
        _WORDS[field].format(built=before or "nothing", here=now or "nothing")
        for field, before, now in pairs
        if before != now
    ]


def system() -> str:
    """OS and architecture: ``linux aarch64``."""
    return f"{platform.system().lower()} {platform.machine()}"


def identity_of(
    onnx: Path,
    *,
    backend: str,
    gpu: str,
    capability: str,
    precision: str,
    calibration: str | None,
    shapes: str,
    options: str,
) -> PlanIdentity:
    """The identity of the plan that would be built of this graph now. Raises EngineError where it cannot be read."""
    return PlanIdentity(
        onnx=content_hash(onnx),
        backend=backend,
        gpu=gpu,
        capability=capability,
        system=system(),
        precision=precision,
        calibration=calibration,
        shapes=shapes,
        options=options,
    )
