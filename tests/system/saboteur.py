"""A plugin for the container: it hangs the inference loop, or itself, while a file in the runtime folder says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from agent import Event, hookimpl
from agent.detection.decoders.base import Candidates
from agent.detection.decoders.yolov8 import Yolov8

RUNTIME = Path("/run/edgewarden")


class Sabotaged(Yolov8):
    """The bundled model's decoder, until it hangs."""

    family: ClassVar[str] = "sabotaged"

    def decode(self, outputs: Mapping[str, Any], min_score: float) -> list[Candidates]:
        if (RUNTIME / "hang-inference").exists():
            the_inference_hangs_here()
        return super().decode(outputs, min_score)


def the_inference_hangs_here() -> None:
    """Its name is looked for in the journal."""
    threading.Event().wait()


class Saboteur:
    """Hangs in ``on_event``."""

    @hookimpl
    def register_decoders(self, register: Callable[[str, Any], None]) -> None:
        register("sabotaged", Sabotaged)

    @hookimpl
    def on_event(self, event: Event) -> None:
        while (RUNTIME / "hang-plugin").exists():
            threading.Event().wait(0.2)
