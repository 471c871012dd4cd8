"""agent.toml as structs: reading, checking, and naming every fault at once.

Each fault is one line: the key's path, what was meant, what stood there. What a plugin's table means is the
plugin's own business: its ``Config`` struct goes through the same ``read_struct``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import socket
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from agent.errors import ConfigError, MissingError
from agent.secrecy import hide_secret, redacted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

S = TypeVar("S", bound=Struct)
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]

RESERVED_NODE_NAMES = frozenset({"all"})
CREDENTIAL = "credential:"


ControlName = Literal[
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "gain",
    "gamma",
    "sharpness",
    "backlight",
    "auto_exposure",
    "exposure",
    "auto_white_balance",
    "white_balance",
    "autofocus",
    "focus",
    "zoom",
]
"""What a local camera may be told; the same names as in ``agent.sources.v4l2_modes.CONTROLS`` (a test holds it)."""


class AgentConfig(Struct, frozen=True, kw_only=True):
    """``[agent]``"""

    name: Name = ""
    state_dir: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"

    def __post_init__(self) -> None:
        if self.name in RESERVED_NODE_NAMES:
            raise ValueError(f"name: {self.name!r} is reserved, choose another")


class ModelConfig(Struct, frozen=True, kw_only=True):
    """``[model]``. ``keys``: minisign's; where there are any, ``model install`` wants a signature by one of them."""

    path: str = "desk"
    keys: tuple[str, ...] = ()
    backend: Literal["auto", "tensorrt", "onnxruntime", "openvino"] = "auto"
    build: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    strict_fp32: bool = False
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8", "mixed"] = "auto"
    memory: Annotated[int, Meta(ge=0)] = 512 << 20
    mode: Literal["auto", "latency", "throughput"] = "auto"
    threads: Count | None = None
    slots: Count | None = None
    score: Fraction = 0.4
    iou: Fraction = 0.6
    max_detections: Count = 100
    nms: Literal["exact", "fast", "matrix"] = "exact"


Point = tuple[Fraction, Fraction]
"""x and y as fractions of the picture's width and height, from its upper left corner."""
Polygon = Annotated[tuple[Point, ...], Meta(min_length=3, max_length=64)]
Anchor = Literal["foot", "centre"]


class MaskConfig(Struct, frozen=True, kw_only=True):
    """``[[camera.mask]]``: a region where things are not wanted; empty ``labels``: nothing is."""

    polygon: Polygon
    labels: tuple[str, ...] = ()
    anchor: Anchor = "foot"
    hides: Literal["all", "still", "moving"] = "all"


class CameraConfig(Struct, frozen=True, kw_only=True):
    """``[[camera]]``"""

    name: Name
    source: Annotated[str, Meta(min_length=1)]
    username: str | None = None
    password_file: str | None = None
    fps: Positive | None = None
    priority: Positive = 1.0
    realtime: bool = True
    max_age: Positive = 1.0
    stall_after: Positive = 5.0
    rotate: Literal[0, 90, 180, 270] = 0
    size: tuple[Count, Count] | None = None
    format: Literal["auto", "mjpeg", "yuyv", "h264", "nv12", "grey"] = "auto"
    controls: dict[ControlName, float] = {}
    sensor_mode: Annotated[int, Meta(ge=0)] | None = None
    hardware_decode: bool = True
    mask: tuple[MaskConfig, ...] = ()


class LimitConfig(Struct, frozen=True, kw_only=True):
    """``[[tracker.limit]]``: what a detection must be like to count. Sizes are fractions of the picture's width, height
    and area; empty ``labels`` and ``cameras`` mean all."""

    labels: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    min_width: Fraction = 0.0
    max_width: Fraction = 1.0
    min_height: Fraction = 0.0
    max_height: Fraction = 1.0
    min_area: Fraction = 0.0
    max_area: Fraction = 1.0
    min_score: Fraction = 0.0


class TrackerConfig(Struct, frozen=True, kw_only=True):
    """``[tracker]``"""

    patience: Positive = 2.0
    min_hits: Count = 2
    confirm_score: Fraction = 0.6
    still_after: Positive = 5.0
    still_patience: Annotated[float, Meta(ge=0)] = 60.0
    limit: tuple[LimitConfig, ...] = ()


class ZoneConfig(Struct, frozen=True, kw_only=True):
    """``[[zone]]``: a region of one camera's picture. Empty ``labels``: everything counts there. Durations in seconds;
    None: not asked for."""

    camera: Name
    name: Name
    polygon: Polygon
    labels: tuple[str, ...] = ()
    anchor: Anchor = "foot"
    loiter_after: Positive | None = None
    left_after: Positive | None = None
    removed: bool = False


class LineConfig(Struct, frozen=True, kw_only=True):
    """``[[line]]``: a line across one camera's picture. ``directions`` name the crossings from its left to its right,
    as one walks from its first point to its last, and from its right to its left."""

    camera: Name
    name: Name
    points: Annotated[tuple[Point, ...], Meta(min_length=2, max_length=64)]
    labels: tuple[str, ...] = ()
    anchor: Anchor = "foot"
    directions: tuple[Name, Name] = ("in", "out")


class RungConfig(Struct, frozen=True, kw_only=True):
    """One step of ``[governor] ladder``; ``rate``: inferences a second in all."""

    precision: Literal["fp32", "fp16", "bf16", "int8", "mixed"] = "fp32"
    rate: Positive | None = None


Celsius = Annotated[float, Meta(ge=0, le=150)]


class GovernorConfig(Struct, frozen=True, kw_only=True):
    """``[governor]``. ``ladder``: the best rung first; by default made of what the gate allows and what was
    measured."""

    enabled: bool = True
    ladder: tuple[RungConfig, ...] = ()
    limit: Celsius | None = None
    limits: dict[str, Celsius] = {}
    ignore: tuple[str, ...] = ()
    margin: Annotated[float, Meta(ge=1, le=50)] = 2.5
    dwell: Positive = 45.0
    safe_rung: Annotated[int, Meta(ge=0)] | None = None
    needs_temperature: bool = False


class LogConfig(Struct, frozen=True, kw_only=True):
    """``[log]``: the event log."""

    max_bytes: Annotated[int, Meta(ge=1 << 20)] = 256 << 20
    max_age: Positive = 7 * 86400.0


class Config(Struct, frozen=True, kw_only=True):
    """The whole of agent.toml. ``plugins`` holds the raw ``[plugins.NAME]`` tables."""

    agent: AgentConfig = AgentConfig()
    model: ModelConfig = ModelConfig()
    camera: tuple[CameraConfig, ...] = ()
    tracker: TrackerConfig = TrackerConfig()
    zone: tuple[ZoneConfig, ...] = ()
    line: tuple[LineConfig, ...] = ()
    governor: GovernorConfig = GovernorConfig()
    log: LogConfig = LogConfig()
    plugins: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if not self.camera:
            raise ValueError("camera: at least one [[camera]] is needed")
        names = [camera.name for camera in self.camera]
        for name in sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"camera: two cameras are called {name!r}, names must differ")
        _check_places("zone", self.zone, names)
        _check_places("line", self.line, names)

    @property
    def node(self) -> str:
        """The node's name: as configured, else the host's."""
        return self.agent.name or socket.gethostname() or "edgewarden"

    @property
    def state_dir(self) -> Path:
        """Where state is kept: as configured, else systemd's StateDirectory, else the user's XDG state folder."""
        if self.agent.state_dir:
            return Path(self.agent.state_dir).expanduser()
        if directory := os.environ.get("STATE_DIRECTORY"):
            return Path(directory.split(":")[0])
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edgewarden"


def _check_places(key: str, places: Sequence[ZoneConfig | LineConfig], cameras: list[str]) -> None:
    """Each belongs to a camera that there is, and has a name of its own there. Raises ValueError."""
    seen: set[tuple[str, str]] = set()
    for index, place in enumerate(places):
        if place.camera not in cameras:
            raise ValueError(
                f"{key}[{index}].camera: no camera is called {place.camera!r}{did_you_mean(place.camera, cameras)}"
            )
        if (place.camera, place.name) in seen:
            raise ValueError(f"{key}[{index}].name: {place.camera!r} has two of the name {place.name!r}")
        seen.add((place.camera, place.name))


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises ConfigError with one line for each fault, MissingError when there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingError(f"{path}: no such configuration file; `edgewarden run --help` shows a first one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


load_config = load
"""The name by which commands of plugins import it from ``agent``."""


def parse(text: str, origin: str = "agent.toml") -> Config:
    """Check the text of a configuration. ``origin`` begins each fault's line."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from None
    config, faults = read_struct(Config, table, "")
    if config is None or faults:
        raise ConfigError([f"{origin}: {fault}" for fault in faults])
    return config


def read_secret(path: str, what: str) -> str:
    """The content of a password file, without its final line break. Raises ConfigError naming ``what``.

    ``credential:NAME`` is the file that systemd's ``LoadCredential=NAME:…`` passed on.
    """
    try:
        return hide_secret(secret_path(path, what).read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{what}: {path}: {reason}; the file must hold the password alone") from None


def secret_path(named: str, what: str) -> Path:
    """Where a secret stands. Raises ConfigError when it is a credential that the service manager did not pass on."""
    if not named.startswith(CREDENTIAL):
        return Path(named).expanduser()
    folder, name = os.environ.get("CREDENTIALS_DIRECTORY"), named.removeprefix(CREDENTIAL)
    if not folder or Path(name).name != name:
        raise ConfigError(f"{what}: {named}: no credential of this name; add LoadCredential={name}:PATH to the unit")
    return Path(folder) / name


def read_struct(cls: type[S], table: Mapping[str, Any], path: str) -> tuple[S | None, list[str]]:
    """Convert a TOML table to a struct; every fault of it and of what it contains as one line each.

    ``path`` is the key path of the table itself (``"plugins.mqtt"``), empty for the root. The struct is None when
    there is any fault. A ``__post_init__`` of the struct raises ValueError(``"key: what is wrong"``).
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    prefix = f"{path}." if path else ""
    unknown = [f"{prefix}{_written(key)}: unknown key{did_you_mean(key, fields)}" for key in table if key not in fields]
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            values[field.name], wrong = _read_value(field.type, table[key], prefix + key)
            faults.extend(wrong)
        elif field.required:
            faults.append(f"{prefix}{key}: missing; {_expected(field.type)} is needed")
    result: S | None = None
    if not faults:
        try:
            result = cls(**values)
        except ValueError as error:
            faults.append(prefix + str(error))
    faults += unknown
    return (None if faults else result), faults


def did_you_mean(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """``'; did you mean "source"?'``, or the list of what is known when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known here: {', '.join(sorted(known))}" if known else ""


def _read_value(wanted: Any, value: Any, path: str) -> tuple[Any, list[str]]:
    struct = _struct_in(wanted)
    if struct is not None and isinstance(value, dict):
        return read_struct(struct, value, path)
    element = _element_struct(wanted)
    if element is not None and isinstance(value, list):
        return _read_list(element, value, path)
    try:
        return msgspec.convert(value, wanted), []
    except msgspec.ValidationError as error:
        return None, [_fault(path, wanted, value, str(error))]


def _read_list(element: type[Struct], value: list[Any], path: str) -> tuple[Any, list[str]]:
    items: list[Any] = []
    faults: list[str] = []
    for index, item in enumerate(value):
        converted, wrong = _read_value(element, item, f"{path}[{index}]")
        items.append(converted)
        faults.extend(wrong)
    return tuple(items), faults


def _without_none(wanted: Any) -> Any:
    if get_origin(wanted) is Annotated and get_origin(get_args(wanted)[0]) in (list, tuple):
        return get_args(wanted)[0]
    if get_origin(wanted) in (Union, types.UnionType):
        rest = [argument for argument in get_args(wanted) if argument is not type(None)]
        return rest[0] if len(rest) == 1 else wanted
    return wanted


def _struct_in(wanted: Any) -> type[Struct] | None:
    wanted = _without_none(wanted)
    return wanted if isinstance(wanted, type) and issubclass(wanted, Struct) else None


def _element_struct(wanted: Any) -> type[Struct] | None:
    wanted = _without_none(wanted)
    return _struct_in(get_args(wanted)[0]) if get_origin(wanted) in (list, tuple) and get_args(wanted) else None


def _fault(path: str, wanted: Any, value: Any, message: str) -> str:
    """One line out of msgspec's message: ``Expected `float` > 0.0, got `str` - at `$.x```."""
    match = re.search(r" - at `\$(.*)`$", message)
    choices = _choices(wanted)
    meant = f"expected {_expected(wanted)}"
    hint = did_you_mean(value, choices) if choices and isinstance(value, str) and _near(value, choices) else ""
    if match and match.group(1):
        path += match.group(1)
        meant = _in_words(message[: match.start()])
    elif "Expected" in message and not choices:
        meant = _in_words(message)
    return f"{path}: {meant}, got {_shown(value)}{hint}"


def _in_words(message: str) -> str:
    words = {"float": "a number", "int": "a whole number", "str": "a text", "bool": "true or false", "array": "a list"}
    meant = message.split(", got")[0].replace("Expected", "expected")
    return re.sub(r"`(\w+)`", lambda match: words.get(match.group(1), match.group(1)), meant)


def _written(key: str) -> str:
    """A key as TOML writes it: quoted where it is more than letters, digits, dashes."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _near(word: str, known: list[str]) -> bool:
    return bool(difflib.get_close_matches(word, known, n=1))


def _choices(wanted: Any) -> list[str]:
    wanted = _without_none(wanted)
    return [str(choice) for choice in get_args(wanted)] if get_origin(wanted) is Literal else []


def _expected(wanted: Any) -> str:
    """A few words for what a key wants."""
    wanted = _without_none(wanted)
    if choices := _choices(wanted):
        return " | ".join(choices)
    if _struct_in(wanted):
        return "a table"
    if get_origin(wanted) is Annotated:
        return _expected(get_args(wanted)[0])
    if get_origin(wanted) in (list, tuple):
        return "a list"
    return {str: "a text", float: "a number", int: "a whole number", bool: "true or false"}.get(wanted, "another value")


def _shown(value: Any) -> str:
    """What stood there, in short; of what may hold a secret only what it is."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        return "a table" if isinstance(value, dict) else "a list of tables"
    text = redacted(json.dumps(value, default=str))
    return text if len(text) <= 60 else text[:57] + "..."
