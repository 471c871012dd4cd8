"""What travels through the agent: frames in, detections, tracks and events out, health and decisions beside them.

All of it is frozen. Times are UNIX seconds unless a name says ``mono`` (``time.monotonic()``); boxes are
``x1, y1, x2, y2`` in pixels of the source picture. What is told over MQTT is these structures as JSON.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]
EventKind = Literal["start", "update", "end"]
EndReason = Literal["", "gone", "source", "stopped", "restart"]
CameraState = Literal["starting", "up", "down", "frozen", "black", "ended", "paused"]

SCHEMA_VERSION = 1


class _JpegCache:
    """The encodings of one picture, shared by every Frame that shows it, each made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_quality: dict[int, bytes] = {}

    def get(self, pixels: NDArray[np.uint8], quality: int) -> bytes:
        import cv2

        with self._lock:
            if quality not in self._by_quality:
                ok, buffer = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
                if not ok:
                    raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded as JPEG")
                self._by_quality[quality] = buffer.tobytes()
            return self._by_quality[quality]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one camera.

    ``pixels``: uint8 ``[H, W, 3]``, BGR, read-only. ``captured_at``: UNIX seconds; ``captured_mono``: the same
    moment by ``time.monotonic()``. ``seq`` counts the pictures that the camera delivered, from 0.
    """

    camera: str
    seq: int
    pixels: NDArray[np.uint8]
    captured_at: float
    captured_mono: float
    _jpegs: _JpegCache = field(default_factory=_JpegCache, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return int(self.pixels.nbytes)

    def jpeg(self, quality: int = 85) -> bytes:
        """The picture as JPEG; encoded at the first call for a quality and kept."""
        return self._jpegs.get(self.pixels, quality)

    def with_pixels(self, pixels: NDArray[np.uint8]) -> Frame:
        """The same picture behind another array object (of equal content); encodings stay shared."""
        return Frame(self.camera, self.seq, pixels, self.captured_at, self.captured_mono, self._jpegs)


class Detections(msgspec.Struct, frozen=True, kw_only=True):
    """What one inference found in one frame.

    ``boxes``: float32 ``[N, 4]``; ``scores``: float32 ``[N]``, descending; ``class_ids``: int32 ``[N]``;
    ``labels``: N strings. ``size``: width and height of the source picture. ``latency_ms``: from
    the start of preprocessing to the end of NMS. ``landmarks``: float32 ``[N, K, 2]`` where the model has them.
    """

    v: int = SCHEMA_VERSION
    camera: str
    seq: int
    captured_at: float
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    labels: tuple[str, ...]
    size: tuple[int, int]
    precision: str
    latency_ms: float
    landmarks: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, score: float) -> Detections:
        """Those of at least that score: a view of the first rows, since scores descend."""
        count = int((self.scores >= score).sum())
        if count == len(self):
            return self
        return msgspec.structs.replace(
            self,
            boxes=self.boxes[:count],
            scores=self.scores[:count],
            class_ids=self.class_ids[:count],
            labels=self.labels[:count],
            landmarks=None if self.landmarks is None else self.landmarks[:count],
        )


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One object followed through the frames of one camera. ``first_seen`` and ``last_seen`` are monotonic.

    ``first_box``: where it was first seen. ``speed``: body lengths (square root of the box's area) a second.
    ``stationary``: it stays where it is.
    """

    id: int
    label: str
    class_id: int
    score: float
    box: Box
    hits: int
    first_seen: float
    last_seen: float
    zones: tuple[str, ...] = ()
    first_box: Box | None = None
    speed: float = 0.0
    stationary: bool = False


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A line that an object crossed, in which of its two directions, when, and the how manieth that made it on that
    line in that direction since the daemon started."""

    line: str
    direction: str
    at: float
    count: int = 1


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One message about one thing that happened: its start, an update, its end.

    ``id`` names the occurrence (UUIDv7) and ``seq`` counts its messages from 0: the pair is the key by which
    a receiver drops duplicates. ``box`` is where the object is now, ``best_box`` where it is in the picture
    that goes with the event. ``frame_age_ms``: from capture to this message. ``late``: it waited (the receiver
    or the daemon was down); ``queued_at`` then says since when.

    ``zones`` are those that it is in now, ``zones_entered`` all that it was in so far, in order, ``zones_left`` those
    of them that it is in no more; ``dwell``: seconds in each so far. ``loitering``: zones in which it stays longer than
    they allow. ``crossings``: the lines crossed. ``path``: seconds since ``started_at``, x and y in pixels of the
    object's anchor (its foot point), thinned out. ``speed``: body lengths (square root of the box's area) a second.
    ``stationary``: it stays where it is. ``left_behind``: it was put down in a zone that asks for that, and nobody is
    near; ``removed``: it was taken from a zone that asks for that. ``ended_by``, with the end: ``gone`` (not seen for
    too long), ``source`` (the recording ended), ``stopped`` (the daemon was), ``restart`` (it had been killed).
    """

    v: int = SCHEMA_VERSION
    node: str
    id: str
    seq: int
    kind: EventKind
    camera: str
    track: int
    label: str
    score: float
    top_score: float
    box: Box
    best_box: Box
    size: tuple[int, int]
    zones: tuple[str, ...] = ()
    zones_entered: tuple[str, ...] = ()
    zones_left: tuple[str, ...] = ()
    dwell: dict[str, float] = {}
    loitering: tuple[str, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    path: tuple[tuple[float, float, float], ...] = ()
    speed: float = 0.0
    stationary: bool = False
    left_behind: bool = False
    removed: bool = False
    started_at: float
    updated_at: float
    ended_at: float | None = None
    ended_by: EndReason = ""
    captured_at: float
    clock_synced: bool = True
    frame_age_ms: float = 0.0
    late: bool = False
    queued_at: float | None = None
    attributes: dict[str, Any] = {}


class Temperature(msgspec.Struct, frozen=True, kw_only=True):
    """One thermal zone, degrees Celsius; the trip points are None where the board names none.

    ``limit``: where the governor keeps it below: the passive trip, or what the user set if that is stricter.
    ``headroom`` and ``critical_headroom``: kelvin left to the limit and to the critical trip; ``slope``: kelvin a
    second.
    """

    celsius: float
    passive: float | None = None
    critical: float | None = None
    limit: float | None = None
    headroom: float | None = None
    critical_headroom: float | None = None
    slope: float | None = None


class Cooling(msgspec.Struct, frozen=True, kw_only=True):
    """A cooling device (a fan, or a clock that the kernel lowers): its state, 0 is off, and the highest."""

    state: int
    most: int


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Of the zone that is nearest its limit, in kelvin: ``headroom`` now, and ``steady_headroom`` in the long run if
    all stays as it is; ``seconds_to_limit`` until it is reached, None when it is not. Negative: above the limit."""

    zone: str
    headroom: float
    steady_headroom: float
    seconds_to_limit: float | None = None


class CameraHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One camera. ``fps``: pictures inferred a second; ``frame_age_ms``: of its last dispatched frame, and the 95th
    percentile of those of the last seconds."""

    state: CameraState
    reason: str = ""
    fps: float = 0.0
    frame_age_ms: float | None = None
    frame_age_p95_ms: float | None = None
    captured: int = 0
    inferred: int = 0
    dropped: int = 0


class PluginHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin: its state, why, and what it has done since the start."""

    state: str
    reason: str = ""
    version: str = ""
    hooks: tuple[str, ...] = ()
    handled: int = 0
    failed: int = 0
    dropped: int = 0
    queued: int = 0
    withheld_frames: int = 0


class LogHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The event log: its state, messages and bytes kept, and what it dropped for age or size since it was made:
    in all, and before every plugin had read it. ``waiting``: messages ahead of each plugin's cursor."""

    state: str = "ok"
    events: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_unread: int = 0
    waiting: dict[str, int] = {}


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is used: ``mode`` is ``latency`` (one inference at a time), ``throughput`` (several) or ``device``
    (as the device has it); ``threads`` of the processor that one inference uses; ``workers``: inferences at a time;
    ``batch``: pictures of several cameras in one, at most, ``batch_rates``: pictures a second by that number, as
    measured at the start (empty with one camera, and where the graph takes one picture); and for what ``reason``.
    ``share``: how much of what the machine can infer this mode makes at most, 0..1: a mode above it makes the rest."""

    mode: str = ""
    threads: int | None = None
    workers: int = 1
    batch: int = 1
    batch_rates: dict[str, float] = {}
    share: float = 1.0
    reason: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the node at one moment. Loads and memory are fractions 0..1, power is watts.

    ``own_load``: this process's share of all cores; ``busy``: share of the last second in which an inference was under
    way, of as many as ``execution`` has at a time. ``outlook``: where the temperature is going; ``faults``: sensors
    that are not believed, and why.
    ``precision`` is the one in use, on the engine ``backend``, for the reason ``choice``; ``precisions`` says of each
    variant of the model what the accuracy gate says, and where it runs.
    ``rung_seconds``: time spent in each rung of the ladder since the start.
    ``reload``: what the last reload could not do: why it was refused, or what needs a restart; empty when all holds.
    ``trial``: of an update of the model, how it stands, or why it was rolled back; empty when there is none.
    """

    v: int = SCHEMA_VERSION
    node: str
    at: float
    temperatures: dict[str, Temperature] = {}
    cooling: dict[str, Cooling] = {}
    outlook: Outlook | None = None
    faults: dict[str, str] = {}
    gpu_load: float | None = None
    gpu_mhz: float | None = None
    cpu_load: float | None = None
    own_load: float | None = None
    busy: float | None = None
    memory: float | None = None
    rss_bytes: int | None = None
    power_w: float | None = None
    rails: dict[str, float] = {}
    fan_rpm: float | None = None
    cameras: dict[str, CameraHealth] = {}
    latency_ms: dict[str, float] = {}
    frame_age_ms: dict[str, float] = {}
    queues: dict[str, int] = {}
    drops: dict[str, int] = {}
    plugins: dict[str, PluginHealth] = {}
    log: LogHealth = LogHealth()
    rung: int = 0
    precision: str = ""
    precisions: dict[str, str] = {}
    backend: str = ""
    choice: str = ""
    execution: Execution = Execution()
    rate: float | None = None
    reason: str = ""
    rung_seconds: tuple[float, ...] = ()
    reload: str = ""
    trial: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the governor wants: ``rate`` is inferences a second in all, None for as many as come."""

    rung: int
    precision: str
    rate: float | None
    reason: str


def _plain(value: Any) -> Any:
    """Numpy arrays and scalars as plain numbers, rounded to what a pixel or a score is good for."""
    if hasattr(value, "round") and hasattr(value, "tolist"):
        digits = 0 if value.dtype.kind in "iub" else 4
        return value.astype("float64").round(digits).tolist() if digits else value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def to_json(value: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """The wire form of any of these structures."""
    return _encoder.encode(value)
