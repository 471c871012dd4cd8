"""What Home Assistant is told so that the node appears there by itself: one device, its entities, their templates.

Pure but for the file that remembers what was announced. The format is Home Assistant's MQTT device discovery (2024.12
and later). When it is published is the publisher's; the states that the entities read are the topics of README.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from agent import to_json
from plugins.mqtt.connection import Message
from plugins.mqtt.topics import Topics

log = logging.getLogger(__name__)

PREFIX = "homeassistant"
BIRTH_TOPIC = f"{PREFIX}/status"
CAMERA_STATES = ["up", "down", "frozen", "black", "paused"]
FPS_LIMITS = ("1", "2", "5", "10", "15", "30")
NO_LIMIT = "none"
LABEL_LIMIT = 100
"""Labels of one camera that become entities; further ones count as motion only."""
DIAGNOSTIC = {"entity_category": "diagnostic"}

Component = dict[str, Any]
Labels = Mapping[str, Iterable[str]]


class Announced(msgspec.Struct, kw_only=True):
    """What Home Assistant knows of this node: the labels of every camera. ``topic``: where it was told."""

    topic: str
    cameras: dict[str, list[str]] = {}


class Memory:
    """The file that survives a restart, so that entities can be removed again and labels are known from the start."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "homeassistant.json"

    def load(self) -> Announced | None:
        """What was announced; None when nothing was, or the file is damaged (said in the log)."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Announced)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            log.warning("mqtt: %s: %s; Home Assistant is told anew", self._path, error)
            return None

    def save(self, announced: Announced) -> None:
        """Replace the file; an OSError is said in the log: what is told does not depend on it."""
        temporary = self._path.with_suffix(".json.new")
        try:
            temporary.write_bytes(msgspec.json.encode(announced))
            temporary.replace(self._path)
        except OSError as error:
            log.warning("mqtt: %s cannot be written: %s", self._path, error.strerror)

    def forget(self) -> None:
        """Nothing is announced any more."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def slug(name: str) -> str:
    """A name as Home Assistant takes it in a topic: ``a-zA-Z0-9_-``, and a hash where others were replaced."""
    plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", name)
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def config_topic(node: str) -> str:
    """Where the device is announced."""
    return f"{PREFIX}/device/{slug(node)}/config"


def announcement(
    node: str,
    topics: Topics,
    cameras: Mapping[str, Iterable[str]],
    *,
    gone: Mapping[str, Iterable[str]],
    commands: bool,
) -> Message:
    """The device with all that is known of it, retained.

    ``cameras``: the labels that each camera has seen. ``gone``: those of cameras that are no more; their entities are
    removed. ``commands``: whether the node takes commands, so that its limit can be set.
    """
    told = version("edgewarden")
    payload = {
        "device": {
            "identifiers": [f"edgewarden_{node}"],
            "name": node,
            "manufacturer": "edgewarden",
            "model": "edge camera agent",
            "sw_version": told,
        },
        "origin": {"name": "edgewarden", "sw_version": told},
        "availability_topic": topics.status,
        "payload_available": "online",
        "payload_not_available": "offline",
        "qos": 1,
        "components": components(node, topics, cameras, gone, commands),
    }
    return Message(config_topic(node), to_json(payload), 1, True, "application/json")


def removal(topic: str) -> Message:
    """The empty retained message by which Home Assistant forgets the device."""
    return Message(topic, b"", 1, True)


def components(
    node: str,
    topics: Topics,
    cameras: Labels,
    gone: Labels,
    commands: bool,
) -> dict[str, Component]:
    """Every entity by an identifier that stays the same for as long as it means the same."""
    found = dict(_of_the_node(topics))
    # Without commands the entity is named with its platform alone, which removes it where it once was.
    found["limit"] = _limit(topics) if commands else {"platform": "select"}
    for name, labels in cameras.items():
        found.update(_of_a_camera(topics, name, labels))
    for name, labels in gone.items():
        parts = _of_a_camera(topics, name, labels)
        found.update({key: {"platform": part["platform"]} for key, part in parts.items()})
    for key, part in found.items():
        if len(part) > 1:
            part["unique_id"] = f"edgewarden_{node}_{key}"
    return found


def _of_the_node(topics: Topics) -> dict[str, Component]:
    celsius = "value_json.temperatures.values() | map(attribute='celsius') | list"
    return {
        "rung": {
            **_health(topics, "Throttle rung", "value_json.rung"),
            "icon": "mdi:speedometer",
            "json_attributes_topic": topics.health,
            "json_attributes_template": "{{ {'precision': value_json.precision, 'rate': value_json.rate, "
            "'reason': value_json.reason} | tojson }}",
        },
        "temperature": {
            **_health(topics, "Temperature", f"({celsius} | max) if value_json.temperatures else None"),
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "suggested_display_precision": 1,
        },
        "outbox": {
            **_health(topics, "Events waiting", "value_json.log.waiting.get('mqtt', 0)"),
            "icon": "mdi:tray-full",
        },
    }


def _of_a_camera(topics: Topics, name: str, labels: Iterable[str]) -> dict[str, Component]:
    key = f"camera_{slug(name)}"
    entry = f"value_json.cameras.get({_literal(name)}, {{}})"
    found: dict[str, Component] = {
        f"{key}_state": {
            "platform": "sensor",
            "name": f"{name} state",
            "state_topic": topics.camera(name, "status"),
            "device_class": "enum",
            "options": CAMERA_STATES,
            **DIAGNOSTIC,
        },
        f"{key}_frame_age": {
            **_health(topics, f"{name} frame age", f"{entry}.get('frame_age_ms')"),
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "suggested_display_precision": 0,
        },
        f"{key}_motion": _occupied(topics, name, "motion", "value_json.labels.values() | sum", "motion"),
        f"{key}_snapshot": {
            "platform": "image",
            "name": f"{name} last event",
            "image_topic": topics.camera(name, "snapshot"),
            "content_type": "image/jpeg",
        },
    }
    for label in sorted(labels)[:LABEL_LIMIT]:
        seen = f"value_json.labels.get({_literal(label)}, 0)"
        found[f"{key}_occupancy_{slug(label)}"] = _occupied(topics, name, label, seen, "occupancy")
    return found


def _health(topics: Topics, name: str, value: str) -> Component:
    return {
        "platform": "sensor",
        "name": name,
        "state_topic": topics.health,
        "value_template": f"{{{{ {value} }}}}",
        "state_class": "measurement",
        **DIAGNOSTIC,
    }


def _occupied(topics: Topics, camera: str, what: str, count: str, device_class: str) -> Component:
    return {
        "platform": "binary_sensor",
        "name": f"{camera} {what}",
        "state_topic": topics.camera(camera, "occupancy"),
        "value_template": f"{{{{ 'ON' if {count} > 0 else 'OFF' }}}}",
        "device_class": device_class,
    }


def _limit(topics: Topics) -> Component:
    fps = f"{{{{ 'null' if value == '{NO_LIMIT}' else value }}}}"
    return {
        "platform": "select",
        "name": "Limit",
        "icon": "mdi:speedometer-slow",
        "entity_category": "config",
        "command_topic": topics.relative("command/limit"),
        "command_template": f'{{"id": "homeassistant-{{{{ now().timestamp() }}}}", "fps": {fps}}}',
        "options": [NO_LIMIT, *FPS_LIMITS],
        "qos": 1,
    }


def _literal(name: str) -> str:
    """A name as a string within a template; Jinja reads the escapes of JSON."""
    return json.dumps(name, ensure_ascii=False)
