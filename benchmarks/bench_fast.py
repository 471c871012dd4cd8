"""As fast as it goes: the bare engine, a tutorial's loop, ours as a library, the whole daemon, and the peers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench_clips import repeated
from bench_daemon import Camera, Daemon
from bench_places import peer_python
from bench_process import Contestant, ContestantError
from bench_race import Calm, Lap, Turn, race
from bench_rooms import (
    NANODET,
    YOLOV8N_SIZE,
    YOLOX,
    Bench,
    Model,
    fed,
    openvino_python,
    ours_has_openvino,
)
from bench_rows import Row

CLIP = "car-detection.mp4"
TUTORIAL, LIBRARY, DAEMON = "tutorial loop", "ours, library", "ours, whole daemon"
OPENVINO_DAEMON = "ours, whole daemon on OpenVINO"
CLIP_TIMES = 2
"""So that the longest run does not come to its end."""


class Promise(NamedTuple):
    """What was promised of a model: daemon over floor, tutorial over daemon, daemon on OpenVINO over floor."""

    daemon: float | None = None
    tutorial: float | None = None
    openvino: float | None = None


class Size(NamedTuple):
    """Frames of a contestant's round and of a floor's; of the daemon's long run and its short one; the most rounds."""

    frames: int
    floor: int
    long: int
    short: int
    rounds: int | None = None


def yolox(bench: Bench) -> None:
    """yolox_nano: everyone."""
    _group(bench, YOLOX, Promise(0.95, 1.5, 0.85), Size(120, 60, 330, 90))


def nanodet(bench: Bench) -> None:
    """nanodet_m_320: ours, and what everybody starts from."""
    _group(bench, NANODET, Promise(daemon=0.97), Size(120, 60, 330, 90))


def yolov8n_size(bench: Bench) -> None:
    """A network of YOLOv8n's size with random weights, which Ultralytics runs too."""
    _group(bench, YOLOV8N_SIZE, Promise(), Size(30, 15, 70, 20, rounds=3))


def _group(bench: Bench, model: Model, promise: Promise, size: Size) -> None:
    clip = bench.clip(CLIP)
    floor = bench.floor(model, clip, 2, size.floor)
    turns: dict[str, Turn] = {}
    started = _contestants(bench, model, clip, size)
    turns |= {name: contestant.round for name, contestant in started.items()}
    turns |= {name: _whole(daemon, size) for name, daemon in _daemons(bench, model, clip, size).items()}
    rounds = min(bench.rounds, size.rounds or bench.rounds)
    bench.say(f"{model.name}: {', '.join(turns)}; {rounds} rounds")
    laps = race(
        floor.round,
        turns,
        rounds,
        failed=lambda who, why: bench.skip(_named(model, who), why),
        progress=bench.say,
        late=bench.is_late,
        calm=Calm(say=bench.say),
    )
    bench.groups[f"{model.name}, as fast as it goes"] = {
        "floor": "session.run, 2 threads",
        "started": {name: started[name].about for name in started},
        "contestants": {name: lap.document() for name, lap in laps.items()},
    }
    for row in rows_of(model.name, laps, promise):
        bench.add(row)
    for contestant in (floor, *started.values()):
        contestant.__exit__()


def _named(model: Model, who: str) -> str:
    return f"{who} ({model.name})"


def rows_of(model: str, laps: Mapping[str, Lap], promise: Promise) -> list[Row]:
    """The rows of one model's race."""
    rows = []
    for name, lap in laps.items():
        if name == "floor":
            continue
        target = {DAEMON: promise.daemon, OPENVINO_DAEMON: promise.openvino}.get(name)
        key = f"{model}: {name} / session.run 2 threads"
        own = name.startswith("ours")
        rows.append(
            Row(key, f"{key} ({statistics.median(lap.ms):.2f} ms)", statistics.median(lap.ratio), "x", target, kept=own)
        )
    if TUTORIAL in laps and DAEMON in laps:
        each = [slow / fast for slow, fast in zip(laps[TUTORIAL].ratio, laps[DAEMON].ratio, strict=False)]
        key = f"{model}: tutorial loop / whole daemon"
        rows.append(Row(key, key, statistics.median(each), "x", promise.tutorial, "higher"))
    return rows


def _contestants(bench: Bench, model: Model, clip: Path, size: Size) -> dict[str, Contestant]:
    """Those that are processes of rounds, and can be started here."""
    told, frames = fed(bench, model, clip), ("--frames", str(size.frames))
    found = {
        "session.run, 1 thread": bench.contestant(
            _named(model, "session.run, 1 thread"), "floor.py", *told, "--threads", 1, "--frames", size.floor
        ),
        TUTORIAL: bench.contestant(_named(model, TUTORIAL), "tutorial.py", *told, *frames),
        LIBRARY: bench.contestant(
            _named(model, LIBRARY), "library.py", "--package", bench.package(model), "--clip", clip, *frames
        ),
        **_openvino(bench, model, told, size),
        **_peers(bench, model, told, frames),
    }
    return {name: contestant for name, contestant in found.items() if contestant is not None}


def _openvino(bench: Bench, model: Model, told: list[str], size: Size) -> dict[str, Contestant | None]:
    if model is NANODET:
        return {}
    python = openvino_python()
    if python is None:
        bench.skip(
            "OpenVINO", "not installed: pip install 'edgewarden[openvino]', or benchmarks/peers/make.py openvino"
        )
        return {}
    return {
        f"OpenVINO {precision}": bench.contestant(
            _named(model, f"OpenVINO {precision}"),
            "openvino_floor.py",
            *told,
            "--precision",
            precision,
            "--frames",
            size.floor,
            python=python,
        )
        for precision in ("f32", "bf16")
    }


def _peers(bench: Bench, model: Model, told: list[str], frames: tuple[str, str]) -> dict[str, Contestant | None]:
    found: dict[str, Contestant | None] = {}
    if model is YOLOV8N_SIZE:
        for peer, script in (("ultralytics", "ultralytics_predict.py"), ("inference", "inference_pipeline.py")):
            python = peer_python(peer)
            if python is None:
                bench.skip(peer, f"not installed: python benchmarks/peers/make.py {peer}")
            else:
                found[peer] = bench.contestant(_named(model, peer), script, *told, *frames, python=python)
    return found


def _daemons(bench: Bench, model: Model, clip: Path, size: Size) -> dict[str, Daemon]:
    if bench.broker_port is None:
        bench.skip(_named(model, DAEMON), "there is no broker to publish to")
        return {}
    camera = Camera("cars", str(repeated(clip, CLIP_TIMES)), realtime=False)
    wanted = {DAEMON: ("onnxruntime", bench.package(model))}
    if model is YOLOX and ours_has_openvino():
        wanted[OPENVINO_DAEMON] = ("openvino", _for_openvino(bench, model))
    elif model is YOLOX:
        bench.skip(OPENVINO_DAEMON, "OpenVINO is not installed beside us, or this version does not know it")
    found = {}
    for number, (name, (backend, package)) in enumerate(wanted.items()):
        folder = bench.folder / f"{model.name}-daemon-{number}"
        daemon = Daemon(folder, package, [camera], bench.broker_port, f'backend = "{backend}"')
        try:
            daemon.run("--frames", "20")  # what is made and measured once at a first start is behind it then
        except ContestantError as error:
            bench.skip(_named(model, name), str(error))
        else:
            found[name] = daemon
    return found


def _for_openvino(bench: Bench, model: Model) -> Path:
    """With bf16 where it can be had, as it is else."""
    try:
        return bench.prepared(model)
    except ContestantError as error:
        bench.skip(f"bf16 of {model.name}", str(error))
        return bench.package(model)


def _whole(daemon: Daemon, size: Size) -> Turn:
    return lambda: daemon.ms_a_frame(size.long, size.short)
