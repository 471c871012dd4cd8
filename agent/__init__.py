"""edgewarden: what a plugin author imports. Names load when they are first used, numpy and OpenCV too."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.config import load_config as load_config
    from agent.data import Box as Box
    from agent.data import Crossing as Crossing
    from agent.data import Decision as Decision
    from agent.data import Detections as Detections
    from agent.data import Event as Event
    from agent.data import Frame as Frame
    from agent.data import Health as Health
    from agent.data import Track as Track
    from agent.data import to_json as to_json
    from agent.detection.decoders.base import Candidates as Candidates
    from agent.detection.decoders.base import Decoder as Decoder
    from agent.detection.overlay import Mark as Mark
    from agent.detection.overlay import Overlay as Overlay
    from agent.detection.overlay import colour_of as colour_of
    from agent.detection.text import TextMask as TextMask
    from agent.detection.text import draw_mask as draw_mask
    from agent.detection.text import text_mask as text_mask
    from agent.engines.base import Engine as Engine
    from agent.engines.base import TensorSpec as TensorSpec
    from agent.errors import AgentError as AgentError
    from agent.errors import ConfigError as ConfigError
    from agent.errors import EngineError as EngineError
    from agent.errors import MissingError as MissingError
    from agent.errors import ModelError as ModelError
    from agent.errors import PluginError as PluginError
    from agent.errors import SourceError as SourceError
    from agent.governor.sensors.base import Sensor as Sensor
    from agent.hookspecs import hookimpl as hookimpl
    from agent.host.facade import Agent as Agent
    from agent.host.facade import Message as Message
    from agent.host.facade import Outbox as Outbox
    from agent.secrecy import hide_secret as hide_secret
    from agent.sources.base import Picture as Picture
    from agent.sources.base import Source as Source

_HOMES = {
    "agent.config": ("load_config",),
    "agent.data": ("Box", "Crossing", "Decision", "Detections", "Event", "Frame", "Health", "Track", "to_json"),
    "agent.detection.decoders.base": ("Candidates", "Decoder"),
    "agent.detection.overlay": ("Mark", "Overlay", "colour_of"),
    "agent.detection.text": ("TextMask", "draw_mask", "text_mask"),
    "agent.engines.base": ("Engine", "TensorSpec"),
    "agent.errors": (
        "AgentError",
        "ConfigError",
        "EngineError",
        "MissingError",
        "ModelError",
        "PluginError",
        "SourceError",
    ),
    "agent.governor.sensors.base": ("Sensor",),
    "agent.hookspecs": ("hookimpl",),
    "agent.secrecy": ("hide_secret",),
    "agent.host.facade": ("Agent", "Message", "Outbox"),
    "agent.sources.base": ("Picture", "Source"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'agent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
