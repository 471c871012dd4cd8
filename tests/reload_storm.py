"""A daemon under load that is reloaded again and again with files drawn by hypothesis, good ones and bad ones.

It runs in this process, so that every frame that goes to the engine is seen, and threads and descriptors are counted.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from broker import Mosquitto
from hypothesis import strategies as st
from waiting import wait_until

from agent import AgentError, Event, Frame, hookimpl
from agent.app import App
from agent.config import Config, load
from agent.detection.engine_set import EngineSet
from agent.detection.model import find_package
from agent.reload import plan

TOLERANCE = 0.25
"""Seconds that this process may be held up between the check of a frame's age and the engine's; not a part of it."""

HEAD = """
[agent]
name = "node"
state_dir = "{folder}/state"
log_level = "{level}"
[model]
path = "{model}"
backend = "onnxruntime"
threads = 1
score = {score}
iou = {iou}
[tracker]
patience = {patience}
min_hits = {hits}
[log]
max_bytes = {log}
[governor]
ladder = [{{ precision = "fp32" }}, {{ precision = "fp32", rate = {rate} }}]
[plugins.watcher]
word = "{word}"
queue = 100000
"""
CAMERA = """
[[camera]]
name = "{name}"
source = "synthetic://desk?fps={fps}&size=320x240&seed={seed}"
priority = {priority}
max_age = {age}
"""
ZONE = """
[[zone]]
camera = "{name}"
name = "z"
polygon = [[0, 0], [1, 0], [1, {height}], [0, {height}]]
"""
MQTT = '[plugins.mqtt]\nhost = "127.0.0.1"\nport = {port}\nhealth_interval = {interval}\n'
FAULTS = {
    "syntax": "\n[agent\n",
    "unknown key": "\n[extra]\nx = 1\n",
    "wrong type": "\n[[camera]]\nname = 3\nsource = 'x'\n",
    "a plugin that is not there": "\n[plugins.nobody]\n",
    "a plugin's wrong table": "\n[plugins.snapshot]\nqualty = 3\n",
    "one name twice": "\n[[camera]]\nname = 'a'\nsource = 'synthetic://desk'\n",
    "an unknown source": "\n[[camera]]\nname = 'x'\nsource = 'nothing://x'\n",
    "a zone of no area": "\n[[zone]]\ncamera = 'a'\nname = 'flat'\npolygon = [[0, 0], [1, 1], [0.5, 0.5]]\n",
    "a zone of nobody": "\n[[zone]]\ncamera = 'nobody'\nname = 'y'\npolygon = [[0, 0], [1, 0], [1, 1]]\n",
}


class File(NamedTuple):
    """A file to reload: its text but for what the storm puts in, and what is wrong with it."""

    values: dict[str, Any]
    cameras: tuple[dict[str, Any], ...]
    keeper: str
    mqtt: int
    fault: str


def _cameras() -> st.SearchStrategy[tuple[dict[str, Any], ...]]:
    one = st.fixed_dictionaries(
        {
            "fps": st.sampled_from([15, 30, 60]),
            "seed": st.integers(1, 3),
            "priority": st.sampled_from([0.5, 1.0, 3.0]),
            "age": st.sampled_from([0.5, 1.0]),
            "height": st.sampled_from([0, 0.4, 0.9]),
        }
    )

    def named(names: set[str]) -> st.SearchStrategy[tuple[dict[str, Any], ...]]:
        return st.tuples(*(one.map(partial(_with_name, name)) for name in ["a", *sorted(names)]))

    return st.sets(st.sampled_from(["b", "c", "d"]), max_size=2).flatmap(named)


def _with_name(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "name": name}


KEEPERS = ("", "[plugins.keeper]\n", '[plugins.keeper]\nword = "x"\n', "[plugins.keeper]\nenabled = false\n")
FILES = st.builds(
    File,
    values=st.fixed_dictionaries(
        {
            "level": st.sampled_from(["info", "warning"]),
            "model": st.sampled_from(["desk", "desk", "desk", "desk", "{folder}/other"]),
            "score": st.sampled_from([0.3, 0.4, 0.6]),
            "iou": st.sampled_from([0.5, 0.6]),
            "patience": st.sampled_from([0.5, 1.0, 2.0]),
            "hits": st.integers(1, 4),
            "log": st.sampled_from([64 << 20, 128 << 20]),
            "rate": st.sampled_from([5, 10]),
            "word": st.sampled_from(["one", "two", "three"]),
        }
    ),
    cameras=_cameras(),
    keeper=st.sampled_from(KEEPERS),
    mqtt=st.sampled_from([1, 1, 1, 2]),
    fault=st.sampled_from(["", "", "", *FAULTS]),
)
CALM = File(
    {"level": "warning", "model": "desk", "score": 0.4, "iou": 0.6, "patience": 1.0, "hits": 2}
    | {"log": 64 << 20, "rate": 5, "word": "calm"},
    tuple({"name": name, "fps": 30, "seed": 1, "priority": 1.0, "age": 1.0, "height": 0.5} for name in "ab"),
    "[plugins.keeper]\n",
    1,
    "",
)


class Word(msgspec.Struct, frozen=True):
    """The table of the two plugins below."""

    word: str = ""


class Kept:
    """What the instances of a plugin were told, by occurrence."""

    def __init__(self) -> None:
        self.seqs: dict[str, list[int]] = defaultdict(list)
        self.ended: set[str] = set()

    def take(self, event: Event) -> None:
        self.seqs[event.id].append(event.seq)
        if event.kind == "end":
            self.ended.add(event.id)

    @property
    def count(self) -> int:
        return sum(len(set(seqs)) for seqs in list(self.seqs.values()))

    def gaps(self) -> list[str]:
        """Occurrences of which something is missing."""
        return [
            identity
            for identity, seqs in self.seqs.items()
            if sorted(set(seqs)) != list(range(len(set(seqs)))) or identity not in self.ended
        ]


def remembering(kept: Kept, lasting: bool) -> type:
    """A plugin that remembers."""

    class Remembering:
        Config = Word
        durable = lasting

        @hookimpl
        def on_event(self, event: Event, frame: Frame | None) -> None:
            kept.take(event)

    return Remembering


class Entry(NamedTuple):
    """An entry point without a distribution."""

    name: str
    thing: Any

    def load(self) -> Any:
        return self.thing


class Counted(NamedTuple):
    """What this process holds while the calm file is in force."""

    reloads: int
    rss: int
    threads: int
    descriptors: int


class Storm:
    """Begins with the calm file. ``reload`` with any; ``count`` goes back to the calm one and counts what is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._broker = Mosquitto(folder / "broker").start()
        self._path = folder / "agent.toml"
        self._process = psutil.Process()
        self.done: Counter[str] = Counter()
        self.oldest = 0.0
        self.slowest = 0.0
        self.counted: list[Counted] = []
        self.watcher, self.keeper = Kept(), Kept()
        shutil.copytree(find_package("desk").folder, folder / "other")
        self._write(CALM)
        mine = [Entry("watcher", remembering(self.watcher, False)), Entry("keeper", remembering(self.keeper, True))]
        shipped = list(entry_points(group="edgewarden.plugins"))
        self.app = App(load(self._path), load=lambda: load(self._path), entry_points=[*mine, *shipped])
        self._submit = EngineSet.submit
        EngineSet.submit = self._watched(self._submit)  # type: ignore[method-assign]
        self.app.start()
        wait_until(lambda: self.app.pipeline.counts.inferred > 20, 60, "it infers")

    def close(self) -> None:
        """Stop it; then every event that was told must have arrived."""
        self.app.stop()
        EngineSet.submit = self._submit  # type: ignore[method-assign]
        self._broker.stop()

    def _watched(self, submit: Any) -> Any:
        def watch(engines: EngineSet, frames: Sequence[Frame]) -> Any:
            now = time.monotonic()
            for frame in frames:
                lane = next(lane for lane in self.app.lanes if lane.name == frame.camera)
                self.oldest = max(self.oldest, now - frame.captured_mono - lane.config.max_age)
            return submit(engines, frames)

        return watch

    def _write(self, file: File) -> None:
        values = {**file.values, "model": file.values["model"].format(folder=self._folder)}
        text = HEAD.format(folder=self._folder, **values)
        for camera in file.cameras:
            text += CAMERA.format(**camera)
        for camera in file.cameras:
            text += ZONE.format(**camera) if camera["height"] else ""
        text += file.keeper + MQTT.format(port=self._broker.port, interval=file.mqtt) + FAULTS.get(file.fault, "")
        new = self._path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, self._path)

    def reload(self, file: File) -> None:
        """One reload, and all that must be true after it."""
        app = self.app
        before, lanes, detector = app.config, list(app.lanes), app.detector
        plugins = set(app.host.statuses())
        self._write(file)
        began, inferred = time.monotonic(), app.pipeline.counts.inferred
        try:
            answer: dict[str, Any] | AgentError = app.reloading.ask().result(60)
        except AgentError as error:
            answer = error
        self.slowest = max(self.slowest, time.monotonic() - began)
        if file.fault:
            assert isinstance(answer, AgentError), f"{file.fault} was taken: {answer}"
            assert (app.config, app.lanes, app.detector) == (before, lanes, detector), file.fault
            assert set(app.host.statuses()) == plugins
            assert app.reloading.told.startswith("reload refused: ")
        else:
            assert not isinstance(answer, AgentError), str(answer)
            self._holds(load(self._path))
        self.done["refused" if file.fault else "taken"] += 1
        wait_until(lambda: app.pipeline.counts.inferred > inferred, 30, "it goes on inferring")

    def _holds(self, config: Config) -> None:
        app = self.app
        wait_until(lambda: set(app.host.statuses()) == set(config.plugins), 30, "plugins follow after the answer")
        wait_until(lambda: not app.host._successors, 30, "every plugin that changed has its successor")
        assert plan(app.config, config).changes == ()
        assert {lane.name for lane in app.lanes} == {camera.name for camera in config.camera}
        assert app.reloading.told == ""

    def count(self) -> Counted:
        """Go back to the calm file, and count."""
        self.reload(CALM)
        wait_until(lambda: all(lane.inferred > 5 for lane in self.app.lanes), 60, "all cameras are inferred")
        wait_until(lambda: self._settled(), 30, "what was left ends")
        gc.collect()
        held = Counted(sum(self.done.values()), self._process.memory_info().rss, *self._held())
        self.counted.append(held)
        return held

    def _held(self) -> tuple[int, int]:
        return threading.active_count(), self._process.num_fds()

    def _settled(self) -> bool:
        """Whether what is held has not changed for a second."""
        held = self._held()
        threading.Event().wait(1.0)
        return held == self._held()

    def lost(self) -> list[str]:
        """After ``close``: what is missing of the events. Empty when nothing is."""
        told = sum(self.app.pipeline.counts.events.values())
        missing = [f"{name}: {kept.count} of {told}" for name, kept in self._all() if kept.count != told]
        return missing + [f"{name}: {identity}" for name, kept in self._all() for identity in kept.gaps()]

    def _all(self) -> list[tuple[str, Kept]]:
        return [("watcher", self.watcher), ("keeper", self.keeper)]
