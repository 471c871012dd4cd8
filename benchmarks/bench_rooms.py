"""What one run of the benchmark has: its folder, broker, models and clips, and the table that it fills."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench_places import kept_folder, material_folder, peer_python
from bench_process import Contestant, ContestantError, run_quietly
from bench_rows import Row
from storm_broker import Broker

ADDS_WITHIN = 300.0


class Model(NamedTuple):
    """A detector of the material (or one made here): its file, and how tutorials feed it."""

    name: str
    file: str
    family: str
    side: int


YOLOX = Model("yolox_nano", "yolox_nano_416.onnx", "yolox", 416)
NANODET = Model("nanodet_m_320", "nanodet_m_320.onnx", "nanodet", 320)
YOLOV8N_SIZE = Model("yolov8n-size", "yolov8n-size.onnx", "yolov8", 640)


@dataclass
class Bench:
    """``broker_port``: None where there is no mosquitto. ``skipped``: what could not be measured, and why."""

    folder: Path
    rounds: int
    broker_port: int | None
    ends: contextlib.ExitStack
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    minutes: float = 9.0
    _packages: dict[str, Path] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """On stderr, with the minute."""
        seconds = time.monotonic() - self.began
        print(f"[{int(seconds) // 60}:{int(seconds) % 60:02d}] {text}", file=sys.stderr, flush=True)

    def is_late(self) -> bool:
        """Whether the time that all of it may take is over."""
        return time.monotonic() - self.began > 60 * self.minutes

    def skip(self, what: str, why: str) -> None:
        """Not measured; said once, and in the report."""
        if what not in self.skipped:
            self.skipped[what] = why
            self.say(f"{what}: not measured: {why}")

    def add(self, row: Row) -> None:
        """To the table."""
        self.rows.append(row)
        self.say(row.line())

    def clip(self, name: str) -> Path:
        """A clip of the material. Raises ContestantError."""
        return _there(material_folder() / "video" / name)

    def onnx(self, model: Model) -> Path:
        """The graph. Raises ContestantError."""
        if model is YOLOV8N_SIZE:
            return self._random_yolo()
        return _there(material_folder() / "models" / model.file)

    def package(self, model: Model) -> Path:
        """The model package, made by `model add` as a user makes it. Raises ContestantError."""
        if model.name not in self._packages:
            words = ["--name", model.name, "--labels", "coco80", "--dir", str(self.folder / "models")]
            agent = [sys.executable, "-m", "agent", "model", "add"]
            run_quietly([*agent, self.onnx(model), *words], ADDS_WITHIN)
            self._packages[model.name] = self.folder / "models" / model.name
        return self._packages[model.name]

    def prepared(self, model: Model) -> Path:
        """The package once more, with what `model prepare` makes of it for OpenVINO: bf16, where the processor has it
        and the accuracy gate lets it through. Raises ContestantError."""
        name = f"{model.name} prepared"
        if name not in self._packages:
            folder = self.folder / "prepared" / model.name
            shutil.copytree(self.package(model), folder)
            coco = material_folder() / "images" / "coco"
            truth: list[str | Path] = ["--evaluate", coco / "instances_val.json", "--images", coco / "val"]
            words = ["--precisions", "bf16", "--calibrate", coco / "calibrate", "--pictures", "8", *truth]
            run_quietly([sys.executable, "-m", "agent", "model", "prepare", folder, *words], ADDS_WITHIN)
            self._packages[name] = folder
        return self._packages[name]

    def contestant(self, name: str, script: str, *words: object, python: Path | None = None) -> Contestant | None:
        """Started, and ended with the run; None, told of, when it cannot start."""
        try:
            return self.ends.enter_context(
                Contestant(name, script, *map(str, words), python=python, folder=self.folder)
            )
        except (ContestantError, OSError) as error:
            self.skip(name, str(error))
            return None

    def floor(self, model: Model, clip: Path, threads: int, frames: int) -> Contestant:
        """ONNX Runtime alone. Raises ContestantError: without it there is nothing to compare with."""
        words = [*fed(self, model, clip), "--threads", str(threads), "--frames", str(frames)]
        return self.ends.enter_context(
            Contestant(f"floor {model.name} {threads}", "floor.py", *words, folder=self.folder)
        )

    def _random_yolo(self) -> Path:
        target = kept_folder() / "models" / YOLOV8N_SIZE.file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            script = Path(__file__).with_name("random_yolo.py")
            unfinished = target.with_suffix(".unfinished")
            run_quietly([sys.executable, script, unfinished], ADDS_WITHIN)
            unfinished.replace(target)
        return target


def fed(bench: Bench, model: Model, clip: Path) -> list[str]:
    """The words by which contestants are told the graph, its family, and the clip."""
    named = {"--model": bench.onnx(model), "--family": model.family, "--side": model.side, "--clip": clip}
    return [str(word) for pair in named.items() for word in pair]


def openvino_python() -> Path | None:
    """The interpreter that has OpenVINO: ours with the extra, else that of benchmarks/peers/make.py."""
    import importlib.util

    return Path(sys.executable) if importlib.util.find_spec("openvino") else peer_python("openvino")


def ours_has_openvino() -> bool:
    """Whether the daemon could run on it: installed beside us, and known to this version."""
    import importlib.util

    from agent.config import parse

    if importlib.util.find_spec("openvino") is None:
        return False
    try:
        parse('[model]\nbackend = "openvino"\n[[camera]]\nname = "a"\nsource = "x"\n')
    except Exception:  # noqa: BLE001 - a version that does not know it says so in its own way
        return False
    return True


@contextlib.contextmanager
def opened(rounds: int, stem: str = "run-") -> Iterator[Bench]:
    """A folder on the disk that the checkout lies on (what the event log waits for is real there), and a broker."""
    kept_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=stem, dir=kept_folder()) as name, contextlib.ExitStack() as ends:
        folder = Path(name).resolve()
        bench = Bench(folder, rounds, None, ends)
        try:
            bench.broker_port = ends.enter_context(broker(folder / "broker"))
        except FileNotFoundError as error:
            bench.skip("MQTT", f"{error}; Debian: apt-get install mosquitto")
        yield bench


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A mosquitto on a free port. Raises FileNotFoundError where it is not installed."""
    port = free_port()
    found = Broker(folder, "127.0.0.1", port)
    try:
        found.start()
        yield port
    finally:
        found.abort()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ContestantError(f"{path}: is not there; set EDGEWARDEN_MATERIAL to the folder of the test material")
    return path


Group = Callable[[Bench], None]
