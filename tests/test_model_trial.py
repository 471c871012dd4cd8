"""Updates of the model of a real daemon: taken, watched, kept or rolled back, over kills and restarts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, edgewarden, write_config
from model_updates import package as blind_package
from waiting import wait_until

from agent.detection.delivery import Order
from agent.detection.model import ModelPackage, find_package, sha256_of
from agent.detection.versions import Trial, Versions
from agent.errors import EngineError
from agent.model_trial import Look, ModelTrial
from agent.precision.admission import Admission
from agent.precision.install import install

NAME = "watch"


class Box:
    """A board with a camera: its models, of which ``watch`` is a copy of the one that ships, and its daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.versions = Versions(self.models, NAME)
        self.copy_of_desk(self.models)
        source = "synthetic://desk?fps=10&size=320x240"
        self.config = write_config(folder / "agent.toml", source=source, model=NAME)
        self.env = {"EDGEWARDEN_MODELS": str(self.models), "EDGEWARDEN_CACHE": str(folder / "cache")}
        self.daemons: list[Daemon] = []

    def copy_of_desk(self, home: Path, phone: str = "phone") -> Path:
        """The model that ships, with another name for a label."""
        target = Path(shutil.copytree(find_package("desk").folder, home / NAME))
        manifest = target / "model.toml"
        text = manifest.read_text().replace('name = "desk"', f'name = "{NAME}"').replace('"phone"', f'"{phone}"')
        manifest.write_text(text)
        return target

    def start(self) -> Daemon:
        """A daemon that has inferred."""
        daemon = Daemon(self.config, env=self.env)
        self.daemons.append(daemon)
        marks = daemon.stderr.count("first frame inferred")
        wait_until(lambda: daemon.stderr.count("first frame inferred") > marks, 60, "it infers")
        return daemon

    def health(self) -> dict[str, Any]:
        path = self.folder / "state" / "status.json"
        found: dict[str, Any] = json.loads(path.read_text())["health"] if path.is_file() else {}
        return found

    def has_seen(self, frames: int) -> bool:
        """Whether the daemon has inferred so many and told of it."""
        cameras = self.health().get("cameras", {})
        return bool(cameras) and cameras["cam"]["inferred"] >= frames

    def install(self, source: Path, trial: float) -> dict[str, Any]:
        done = edgewarden(
            *("model", "install", source, "--dir", self.models, "--trial", str(trial), "--slower", "1000", "--json")
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def record(self) -> Trial:
        record = self.versions.record()
        assert record is not None
        return record

    def reached(self, state: str) -> Callable[[], bool]:
        return lambda: self.record().state == state


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    for daemon in box.daemons:
        if daemon.process.poll() is None:
            daemon.kill()


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    """A version that finds nothing."""
    return blind_package(tmp_path / "blind", NAME, score=0.0).folder


def test_an_update_that_detects_nothing_is_rolled_back_by_itself(box: Box, blind: Path) -> None:
    old = find_package(NAME, box.models)
    daemon = box.start()
    wait_until(lambda: box.has_seen(30), 60, "what the old one does is known")
    told = box.install(blind, trial=30)
    assert (told["version"], told["state"]) == ("0001", "waiting")
    wait_until(box.reached("running"), 60, "the daemon takes it by itself")
    wait_until(box.reached("rolled back"), 60, "it is rolled back by itself")
    assert "0.0 detections a minute" in box.record().reason
    wait_until(lambda: "rolled back: 0.0 detections" in box.health()["trial"], 30, "health tells of it")
    wait_until(lambda: daemon.stderr.count("its files have changed") == 2, 30, "the old one is in use again")
    assert find_package(NAME, box.models).variant == old.variant
    rows = json.loads(edgewarden("model", "list", "--dir", box.models, "--json").stdout)
    assert "0001: rolled back: 0.0 detections" in next(row["update"] for row in rows if row["name"] == NAME)
    daemon.terminate()
    code, summary = daemon.finish(60)
    assert code == 0, daemon.stderr
    assert summary["events"]["start"] == summary["events"]["end"] > 0


def test_an_update_that_does_as_well_passes_its_trial_and_can_be_undone_by_hand(box: Box, tmp_path: Path) -> None:
    daemon = box.start()
    wait_until(lambda: box.has_seen(20), 60, "what the old one does is known")
    box.install(box.copy_of_desk(tmp_path / "better", "telephone"), trial=4)
    wait_until(box.reached("accepted"), 60, "it passes")
    assert "detections a minute" in box.record().reason
    assert "telephone" in find_package(NAME, box.models).labels
    done = edgewarden("model", "rollback", NAME, "--dir", box.models, "--json")
    assert json.loads(done.stdout)["state"] == "rolled back"
    wait_until(lambda: daemon.stderr.count("its files have changed") == 2, 30, "the daemon follows")
    assert "phone" in find_package(NAME, box.models).labels
    assert edgewarden("model", "rollback", NAME, "--dir", box.models).returncode == 1, "there is nothing further back"


def test_a_trial_begins_with_the_next_start_and_goes_on_after_another(box: Box, blind: Path) -> None:
    first = box.start()
    wait_until(lambda: box.has_seen(30), 60, "what the old one does is known")
    first.terminate()
    first.finish(60)
    box.install(blind, trial=1000)
    second = box.start()
    wait_until(lambda: box.record().seen.seconds > 4, 60, "it is watched")
    assert box.record().old is not None, "what the old one did was remembered"
    second.terminate()
    second.finish(60)
    seen = box.record().seen.seconds
    assert box.record().starts == 0, "an orderly end does not count"
    box.start()
    wait_until(lambda: box.record().seen.seconds > seen + 4, 60, "the trial goes on")
    assert box.record().state == "running"


def test_a_daemon_that_dies_with_an_update_again_and_again_comes_back_with_the_old_one(box: Box, blind: Path) -> None:
    box.install(blind, trial=1000)
    for starts in (1, 2):
        daemon = box.start()
        assert box.record().starts == starts
        daemon.kill()
    box.start()
    assert box.record().state == "rolled back"
    assert "2 times to no orderly end" in box.record().reason
    assert "phone" in find_package(NAME, box.models).labels


def _unmeasured(_package: ModelPackage, _old: ModelPackage | None) -> Admission:
    return Admission(0.0, None, None, None, None, ())


@pytest.mark.parametrize("is_running", [True, False])
def test_an_update_that_cannot_be_loaded_is_rolled_back_at_once(box: Box, blind: Path, is_running: bool) -> None:
    # The gate would have refused it: here it is what became of it since.
    model = find_package(str(blind)).choose().file
    old = sha256_of(blind / model)
    (blind / model).write_bytes(b"no graph")
    manifest = blind / "model.toml"
    manifest.write_text(manifest.read_text().replace(old, sha256_of(blind / model)))
    if is_running:
        daemon = box.start()
    install(Order(str(blind)), box.models, _unmeasured, at=0.0, seconds=60.0)
    if not is_running:
        daemon = box.start()
    wait_until(box.reached("rolled back"), 60, "it is rolled back")
    assert "cannot be loaded" in box.record().reason
    assert daemon.process.poll() is None
    # What is to be done is written down before it is done.
    wait_until(lambda: "phone" in find_package(NAME, box.models).labels, 30, "the old one has the name again")
    frames = box.health()["cameras"]["cam"]["inferred"] if box.health() else 0
    wait_until(lambda: box.has_seen(frames + 10), 60, "it infers, with the old one")


# the same without a process


class Looked:
    """A trial that looks every second at a model with ten frames a second, one detection in each by default."""

    def __init__(self, box: Box) -> None:
        self.trial = ModelTrial(str(box.models / NAME), box.folder)
        self.package = self.trial.load(str(box.models / NAME), lambda: find_package(str(box.models / NAME)))
        self.trial.use(self.package, 0.0)
        self.now = 0.0
        self.detections = 0

    def look(self, seconds: int, *, detections: int = 10, working: bool = True) -> bool:
        """Whether it was said at last that another model is to be loaded."""
        another = False
        for _ in range(seconds):
            self.now += 1.0
            self.detections += detections
            another = self.trial.tick(Look(int(self.now) * 10, self.detections, 40.0, working), self.now)
        return another

    def follow(self, box: Box) -> None:
        self.package = self.trial.load(str(box.models / NAME), lambda: find_package(str(box.models / NAME)))
        self.trial.use(self.package, self.now)


@pytest.fixture
def looked(box: Box, blind: Path) -> Looked:
    """It has worked with the old one for a minute, and then took the new one."""
    box.folder.mkdir(exist_ok=True)
    looked = Looked(box)
    assert not looked.look(60)
    install(Order(str(blind)), box.models, _unmeasured, at=0.0, seconds=100.0)
    assert looked.look(1), "the new one is noticed"
    assert not looked.look(5), "and asked for once"
    assert looked.look(25), "and again later"
    looked.follow(box)
    assert looked.trial.told == "watch: 0001: on trial, 0 of 100 s watched"
    return looked


def test_a_trial_is_passed_told_and_remembered(looked: Looked, box: Box) -> None:
    looked.look(99)
    assert "on trial" in looked.trial.told
    looked.look(5)
    assert looked.trial.told == ""
    assert box.record().reason == "600.0 detections a minute for 600.0, frames 40 for 40 ms old"


def test_while_no_camera_is_up_the_trial_stands_still(looked: Looked, box: Box) -> None:
    looked.look(1000, detections=0, working=False)
    assert box.record().state == "running"
    assert looked.look(10, detections=0), "the old one is to be loaded"
    assert box.record().state == "rolled back"
    assert looked.trial.told == "watch: 0001: rolled back: 0.0 detections a minute, 600.0 by the old one"
    looked.follow(box)
    assert "phone" in looked.package.labels


def test_an_engine_that_fails_for_good_ends_the_trial(looked: Looked, box: Box) -> None:
    looked.trial.stop(EngineError("the engine failed four times"))
    assert (box.record().state, box.record().reason) == ("rolled back", "it failed: the engine failed four times")


def test_a_reload_during_the_trial_is_no_start_and_its_failure_no_fault_of_the_model(looked: Looked, box: Box) -> None:
    def fail() -> ModelPackage:
        raise EngineError("no CUDA here")

    for _ in range(5):
        with pytest.raises(EngineError):
            looked.trial.load(str(box.models / NAME), fail)
        looked.follow(box)
    assert (box.record().state, box.record().starts) == ("running", 1)


def test_a_trial_that_was_ended_by_hand_is_watched_no_more(looked: Looked, box: Box) -> None:
    box.versions.accept("by hand")
    looked.look(50, detections=0)
    assert box.record().reason == "by hand"
    assert looked.trial.told == ""


def test_what_nobody_can_read_of_a_trial_is_as_if_there_were_none(looked: Looked, box: Box) -> None:
    (box.versions.home / "trial.json").write_bytes(b"{")
    assert not looked.look(50, detections=0)
    assert box.versions.current() == "0001", "nothing is changed by a guess"
