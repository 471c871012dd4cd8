"""Whether Home Assistant takes our device: its own discovery schemas, and its own templates on our own payloads.

    python -m venv /tmp/ha && /tmp/ha/bin/pip install homeassistant==2025.4.4 paho-mqtt==2.1.0 msgspec numpy
    PYTHONPATH=. /tmp/ha/bin/python benchmarks/homeassistant_schema.py

Needs Home Assistant's package (Python 3.13) in an environment of its own; without it, it says so and checks nothing.
Strict where Home Assistant is not: its discovery drops options that it does not know, here such a one is an error.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from importlib import import_module
from typing import Any

CAMERAS = {"cam": ["person", "sports ball"], 'a/b "q" }} {% x %} ü 😀': ["person"]}
GONE = {"shed": ["cat"]}


def payload(commands: bool) -> dict[str, Any]:
    """As the plugin announces it."""
    from plugins.mqtt.homeassistant import announcement
    from plugins.mqtt.topics import Topics

    told = announcement("gate 1", Topics("edgewarden", "gate 1"), CAMERAS, gone=GONE, commands=commands)
    decoded: dict[str, Any] = json.loads(told.payload)
    return decoded


def check_device(told: dict[str, Any]) -> int:
    """The device's schema, then that of each platform; the number of entities."""
    from plugins.mqtt.homeassistant import config_topic

    discovery = import_module("homeassistant.components.mqtt.discovery")
    schemas = import_module("homeassistant.components.mqtt.schemas")
    assert discovery.TOPIC_MATCHER.fullmatch(config_topic("gate 1").removeprefix("homeassistant/"))
    schemas.DEVICE_DISCOVERY_SCHEMA(told)
    entities = 0
    for key, part in told["components"].items():
        if len(part) == 1:
            continue  # names its platform alone: removes the entity
        component = {name: value for name, value in part.items() if name != "platform"}
        component |= {name: told[name] for name in schemas.SHARED_OPTIONS if name in told and name not in part}
        platform = import_module(f"homeassistant.components.mqtt.{part['platform']}")
        taken = platform.DISCOVERY_SCHEMA({**component, "device": told["device"], "origin": told["origin"]})
        unknown = component.keys() - taken.keys()
        assert not unknown, f"{key}: {part['platform']} does not know {sorted(unknown)}"
        entities += 1
    return entities


def example_states() -> dict[str, str]:
    """What stands on the topics: a health and an occupancy, as they are sent."""
    from agent.data import CameraHealth, Health, LogHealth, Temperature, to_json
    from plugins.mqtt.occupancy import Occupancy

    cameras = {name: CameraHealth(state="up", frame_age_ms=41.5) for name in CAMERAS}
    health = Health(
        node="gate 1",
        at=1.0,
        rung=2,
        reason='"hot"',
        cameras=cameras,
        temperatures={"cpu": Temperature(celsius=61.5), "gpu": Temperature(celsius=55.0)},
        log=LogHealth(waiting={"mqtt": 7}),
    )
    occupancy = Occupancy(node="gate 1", camera="cam", at=1.0, labels={"person": 1, "sports ball": 0})
    return {"health": to_json(health).decode(), "occupancy": to_json(occupancy).decode()}


def render(hass: Any, told: dict[str, Any]) -> dict[str, str]:
    """Every template with the payload of its topic, by Home Assistant's own engine."""
    models = import_module("homeassistant.components.mqtt.models")
    make = import_module("homeassistant.helpers.template").Template
    states = example_states()
    shown: dict[str, str] = {}
    for key, part in told["components"].items():
        if "value_template" in part:
            template = models.MqttValueTemplate(make(part["value_template"], hass))
            state = states[part["state_topic"].rsplit("/", 1)[1]]
            shown[key] = str(template.async_render_with_possible_json_value(state))
        if "json_attributes_template" in part:
            template = models.MqttValueTemplate(make(part["json_attributes_template"], hass))
            shown[f"{key} attributes"] = str(template.async_render_with_possible_json_value(states["health"]))
        if "command_template" in part:
            for option in part["options"]:
                command = models.MqttCommandTemplate(make(part["command_template"], hass)).async_render(option)
                shown[f"{key} {option}"] = str(command)
    return shown


async def check() -> None:
    """Everything, within a Home Assistant that has nothing set up."""
    told = import_module("homeassistant.const").__version__
    with tempfile.TemporaryDirectory() as folder:
        hass = import_module("homeassistant.core").HomeAssistant(folder)
        import_module("homeassistant.helpers.frame").async_setup(hass)
        for commands in (False, True):
            entities = check_device(payload(commands))
            how = "with" if commands else "without"
            print(f"Home Assistant {told} takes the device {how} commands: {entities} entities")
        for key, value in render(hass, payload(True)).items():
            print(f"  {key}: {value}")
        await hass.async_stop(force=True)


def main() -> None:
    """Check, and print what the templates give."""
    try:
        import_module("homeassistant")
    except ImportError as error:
        sys.exit(f"nothing checked: Home Assistant is not installed here ({error}); see the head of this file")
    asyncio.run(check())


if __name__ == "__main__":
    main()
