"""Writes docs/schema: the JSON Schema (2020-12) of every JSON payload on MQTT, made from the structs that are sent.

    python benchmarks/make_schema.py            write the files
    python benchmarks/make_schema.py --check    exit 1 and name them when they are not what would be written

A folder for each version (``v``). What a struct names is always sent, so every property is required.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.control import CameraArgs, LimitArgs, NoArgs
from agent.data import SCHEMA_VERSION, Box, Detections, Event, Health
from plugins.alert.message import AlertMessage
from plugins.mqtt.commands import Id
from plugins.mqtt.config import SnapshotArgs
from plugins.mqtt.occupancy import Occupancy

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schema" / f"v{SCHEMA_VERSION}"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ARRAYS: dict[str, Any] = {
    "boxes": list[Box],
    "scores": list[float],
    "class_ids": list[int],
    "landmarks": list[list[tuple[float, float]]] | None,
}
"""The arrays of Detections as they stand on the wire."""


def payloads() -> dict[str, tuple[str, type[msgspec.Struct]]]:
    """By name of the file: the topic below ``<base>/<node>`` and the struct."""
    told: dict[str, tuple[str, type[msgspec.Struct]]] = {
        "event": ("camera/<name>/events", Event),
        "detections": ("camera/<name>/detections", wire(Detections)),
        "occupancy": ("camera/<name>/occupancy", Occupancy),
        "health": ("health", Health),
        "alert": ("alerts", AlertMessage),
        "command-result": ("command/<name>/result", CommandResult),
    }
    return told | {f"command-{name}": (f"command/{name}", command(name, struct)) for name, struct in COMMANDS.items()}


COMMANDS: dict[str, type[msgspec.Struct]] = {
    "ping": NoArgs,
    "snapshot": SnapshotArgs,
    "pause": CameraArgs,
    "resume": CameraArgs,
    "limit": LimitArgs,
    "reload": NoArgs,
}


class CommandResult(msgspec.Struct):
    """The answer to a command: its ``id`` (null for what was no command), whether it was done, else why not. What else
    stands in it is the command's own."""

    id: str | None
    ok: bool
    error: str | msgspec.UnsetType = msgspec.UNSET


def command(name: str, struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The arguments with the id that every command has beside them."""
    own: list[Any] = [(field.name, field.type, field.default) for field in msgspec.structs.fields(struct)]
    fields: list[Any] = [("id", Id), *own]
    return msgspec.defstruct(
        f"Command_{name}", fields, kw_only=True, forbid_unknown_fields=True, namespace={"__doc__": struct.__doc__}
    )


def wire(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The struct with lists in the place of arrays."""
    fields: list[Any] = []
    for name, default in zip(struct.__struct_fields__, _defaults(struct), strict=True):
        kind = ARRAYS.get(name) or eval(struct.__annotations__[name], vars(sys.modules[struct.__module__]))
        fields.append((name, kind) if default is msgspec.NODEFAULT else (name, kind, default))
    return msgspec.defstruct(struct.__name__, fields, kw_only=True, namespace={"__doc__": struct.__doc__})


def _defaults(struct: type[msgspec.Struct]) -> list[Any]:
    """One for each field, in order; keyword-only fields all have a place among them."""
    given = struct.__struct_defaults__
    return [msgspec.NODEFAULT] * (len(struct.__struct_fields__) - len(given)) + list(given)


def schema(name: str, topic: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The whole document of one payload."""
    (reference,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    main = parts.pop(str(reference["$ref"]).rsplit("/", 1)[1])
    document = {
        "$schema": DIALECT,
        "$id": f"urn:edgewarden:v{SCHEMA_VERSION}:{name}",
        **(_plain(main) if name.startswith("command-") else _sent(main)),
        "$comment": f"on <base>/<node>/{topic}; generated, do not edit",
    }
    if parts:
        document["$defs"] = {key: _sent(part) for key, part in sorted(parts.items())}
    return document


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    """With the description in one paragraph."""
    return {**part, "description": " ".join(part["description"].split())}


def _sent(part: dict[str, Any]) -> dict[str, Any]:
    """As it is sent: every property is there, ``v`` is this version, the description is one paragraph."""
    properties = dict(part.get("properties", {}))
    if "v" in properties:
        properties["v"] = {"const": SCHEMA_VERSION}
    described = {"description": " ".join(part["description"].split())} if "description" in part else {}
    return {**part, **described, "properties": properties, "required": list(properties)}


def documents() -> dict[Path, str]:
    """Every file and what stands in it."""
    return {
        FOLDER / f"{name}.json": json.dumps(schema(name, topic, struct), indent=2, ensure_ascii=False) + "\n"
        for name, (topic, struct) in payloads().items()
    }


def stale() -> list[Path]:
    """Files that are missing, differ or belong to no payload."""
    wanted = documents()
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    return differing + sorted(set(FOLDER.glob("*.json")) - set(wanted))


def main() -> None:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        differing = stale()
        if differing:
            names = ", ".join(path.name for path in differing)
            sys.exit(f"docs/schema is not what the structs say ({names}); run python benchmarks/make_schema.py")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    main()
