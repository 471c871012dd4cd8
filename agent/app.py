"""The composition root: builds everything from a Config, starts it in order, stops it in reverse.

The only module that chooses concrete classes for the daemon. What the parts do is theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec

from agent.board.jetson import power_mode
from agent.config import CameraConfig, Config, ModelConfig, read_secret
from agent.control import Control
from agent.data import CameraHealth, Frame, Health, PluginHealth, to_json
from agent.detection.decoders.base import Decoder
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet, Offer, load_within
from agent.detection.model import ModelPackage, Variant, find_package
from agent.detection.plans import TensorRT, find_tensorrt
from agent.engines.base import Engine
from agent.engines.on_processor import BF16, Backend, backend_for, backend_of, open_engine, version_of, why_not
from agent.engines.onnx import cores
from agent.engines.openvino import is_installed
from agent.engines.plan_store import PlanStore
from agent.engines.store import SpeedStore
from agent.errors import AgentError, ConfigError, EngineError
from agent.execution import Executor
from agent.governor import ladder
from agent.governor.governing import Governor, Options
from agent.governor.ladder import Cost, Step
from agent.governor.limits import Rung
from agent.governor.modes import ModePolicy, fixed, levels
from agent.governor.monitor import Monitor
from agent.governor.policy import Settings
from agent.governor.sensors.base import Reading
from agent.governor.sensors.board import board_sensors
from agent.governor.steering import Steering
from agent.host.clock import is_synced
from agent.host.loading import table_faults
from agent.host.log import EventLog
from agent.host.manager import Fresh, Host
from agent.logs import reconfigure
from agent.model_trial import Look, ModelTrial
from agent.pipeline import Lane, Pipeline, failure
from agent.precision.contest import WAITS, Contest, ContestMeans
from agent.precision.contest_rules import Standing
from agent.precision.upgrade import Means, Upgrade
from agent.precision.usable import (
    Judged,
    accurate,
    as_named,
    buildable,
    insisted,
    judged,
    limit_of,
    loss_of,
    weight_of,
)
from agent.reload import Plan, plan, reopens
from agent.reloading import Applied, Reloading
from agent.service import Watchdog, notify, status, status_line, takes_long, watchdog_period
from agent.sources.base import Source
from agent.sources.capture import Capture
from agent.sources.factory import BUILT_IN, SourceOptions, open_source
from agent.startup import Startup
from agent.tracking.events import Events
from agent.tracking.pictures import BestPictures
from agent.tracking.presence import Presence
from agent.tracking.sieve import Sieve
from agent.tracking.tracker import Tracker

log = logging.getLogger(__name__)

STATUS_PERIOD = 5.0
# Of a camera whose table names no rate, until it shows one.
ASSUMED_FPS = 30.0
DRAIN_ON_SIGNAL = 8.0
DRAIN_AT_END = 20.0
PLUGIN_SHUTDOWN = 5.0
# What the tracker may still use to carry a track on, below the score at which a detection is told.
DOUBTFUL_SCORE = 0.1


class App:
    """The daemon. ``start``, then ``wait``, then ``stop``; or as a context manager, which does the first and last.

    ``stop_event`` set from outside (a signal) ends ``wait``. ``max_frames`` ends the run after so many inferences.
    ``load`` reads the configuration again when a reload is asked for: by command, or as ``reload_asked`` says, which
    ``wait`` polls. What can change while it runs does, see reload.py; a wrong file changes nothing. ``startup``: the
    parts of the start so far.
    Raises ConfigError, ModelError, EngineError and AgentError from ``start``; a missing live camera never ends it.
    """

    def __init__(
        self,
        config: Config,
        *,
        stop_event: threading.Event | None = None,
        max_frames: int | None = None,
        entry_points: Any = None,
        load: Callable[[], Config] | None = None,
        reload_asked: Callable[[], bool] = lambda: False,
        startup: Startup | None = None,
    ) -> None:
        self.config = config
        self._load = load
        self._reload_asked = reload_asked
        self._stop_event = stop_event or threading.Event()
        self._max_frames = max_frames
        self._entry_points = entry_points
        self._stack = contextlib.ExitStack()
        self._started = time.monotonic()
        self._startup = startup or Startup(self._started)
        self._identity = {"pid": os.getpid(), "started_at": time.time(), "version": version("edgewarden")}
        self._status_due = 0.0
        self._busy = (time.monotonic(), 0.0)
        self._failure: BaseException | None = None
        self._ended = threading.Event()

    def __enter__(self) -> App:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Build and start everything; what was started is stopped again when a later part fails."""
        with contextlib.ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        notify("READY=1", status(f"{len(self.config.camera)} camera(s), {self.detector.name}"))

    def _build(self, stack: contextlib.ExitStack) -> None:
        config = self.config
        state_dir = config.state_dir
        stack.enter_context(only_daemon_of(state_dir))
        self.log = EventLog(state_dir / "events.db", max_bytes=config.log.max_bytes, max_age=config.log.max_age)
        stack.callback(self.log.close)
        self.host = Host(
            node=config.node,
            state_dir=state_dir,
            log=self.log,
            tables=config.plugins,
            latest_frame=self._latest_frame,
            zones=self._zones,
            entry_points=self._entry_points,
        )
        self.host.load()
        self._startup.ended("plugins", time.monotonic())
        for scheme in set(self.host.registry.sources) & set(BUILT_IN):
            log.warning("a plugin registers %s://, which is built in: its cameras go to the built-in source", scheme)
        self._wake = threading.Event()
        self._pictures = BestPictures()
        lanes = [self._lane(config, camera, self.host.registry.sources) for camera in config.camera]
        # They connect while the engine loads: both take long, and neither needs the other.
        stack.callback(stop_captures, lanes)
        for lane in lanes:
            lane.capture.start()
        self.trial = ModelTrial(config.model.path, state_dir)
        with takes_long(f"loading {config.model.path}"):
            self.detector = self.trial.load(
                config.model.path, lambda: build_detector(config.model, self.host.registry.decoders)
            )
        self.trial.use(self.detector.package, time.monotonic())
        stack.callback(lambda: self.trial.stop(self._failure))
        stack.callback(lambda: self.detector.close())
        self._startup.ended("engine", time.monotonic())
        self._better = build_better(config, self.detector, self.host.registry.decoders)
        self._executor = build_executor(config, self.detector, self.host.registry.decoders, lanes)
        self.pipeline = Pipeline(
            lanes, self.detector, self.host, score=config.model.score, wake=self._wake, max_frames=self._max_frames
        )
        self.reloading = Reloading(self._read, self._apply, lambda: self.config)
        self._swaps = self.detector.swaps
        self._governing = governing(config, self.detector, self.detector.seconds())
        rungs = self._governing.rungs
        self.control = Control(self.pipeline, rungs, self.reloading.ask, self.host.offer_decision)
        self.pipeline.aim(self.control.decision)
        self.steering = self._steering(self._governing)
        self.host.provide(self.control.commands())
        self._board = board_sensors()
        self.monitor = Monitor({**self.host.registry.sensors, **self._board}, self._tick)
        self.host.start()
        stack.callback(self._stop_host)
        self.host.end_unfinished(time.time())
        self.monitor.start()
        stack.callback(self.monitor.stop)
        dispatcher = threading.Thread(target=self._dispatch, name="dispatcher", daemon=True)
        dispatcher.start()
        stack.callback(dispatcher.join, 30.0)
        stack.callback(self.pipeline.stop)
        stack.callback(lambda: stop_captures(self.lanes))
        start_better(self._better)
        stack.callback(lambda: stop_better(self._better))
        self.reloading.start()
        stack.callback(self.reloading.stop)

    @property
    def lanes(self) -> list[Lane]:
        """The cameras as they are now."""
        return self.pipeline.lanes

    def _lane(self, config: Config, camera: CameraConfig, factories: Mapping[str, Callable[[str], Source]]) -> Lane:
        return build_lane(config, camera, self.host, self._pictures, self._wake, factories)

    # reload, on its own thread

    def _read(self) -> Config:
        """The configuration anew, checked with all that plugins say of their tables. Raises ConfigError."""
        if self._load is None:
            raise ConfigError("reload: this agent was started without a file to read again")
        config = self._load()
        if faults := table_faults(config.plugins, self._entry_points):
            raise ConfigError(faults)
        return config

    def _apply(self, wanted: Config) -> Applied:
        """Make ready all that can fail, then change it between two frames. Raises AgentError; then nothing changed."""
        todo = plan(self.config, wanted)
        package = self.detector.package
        fresh = self.host.prepare(todo.config.plugins, todo.names("plugin"))
        with contextlib.ExitStack() as undo:
            detector = self._next_detector(todo, fresh.registry.decoders)
            upgrade = self._better
            seconds = self._governing.seconds
            if detector is not self.detector:
                undo.callback(detector.close)
                upgrade = build_better(todo.config, detector, fresh.registry.decoders)
                seconds = detector.seconds()
            lanes = self._next_lanes(todo, fresh.registry.sources)
            executor = self._executor
            if detector is not self.detector:
                executor = build_executor(todo.config, detector, fresh.registry.decoders, lanes)
            cameras = {camera.name: camera for camera in todo.config.camera}
            retuned = {lane: settings_of(todo.config, cameras[lane.name]) for lane in lanes if lane in self.lanes}
            change = Installation(
                todo.config, lanes, retuned, detector, executor, governing(todo.config, detector, seconds)
            )
            if self.reloading.stopping:
                raise AgentError("reload: the agent is stopping")
            before = self.lanes
            self.pipeline.between_frames(lambda: self._install(change)).result()
            undo.pop_all()
        self.trial.use(detector.package, time.monotonic())
        self._follow(todo, before, upgrade)
        changed = [one.what for one in todo.changes]
        if package is not detector.package and not todo.touches("model"):
            changed.append(f"model {detector.name}: its files have changed")
        return Applied(changed, todo.restart, lambda: self._finish_reload(fresh))

    def _follow(self, todo: Plan, before: Sequence[Lane], upgrade: Upgrade | Contest | None) -> None:
        """After the change: stop what is no more, start what is new."""
        stop_captures([lane for lane in before if lane not in self.lanes])
        for lane in self.lanes:
            if lane not in before:
                lane.capture.start()
        if upgrade is not self._better:
            stop_better(self._better)
            self._better = upgrade
            start_better(upgrade)
        self.log.bound(todo.config.log.max_bytes, todo.config.log.max_age)
        if todo.touches("logging"):
            reconfigure(todo.config.agent.log_level, todo.config.agent.log_format)

    def _next_detector(self, todo: Plan, decoders: Mapping[str, type[Decoder]]) -> EngineSet:
        """The one that runs, or another one beside it, warm, where the model, its files or their use have changed."""
        model = todo.config.model

        def load() -> EngineSet:
            if not todo.touches("model") and find_package(model.path) == self.detector.package:
                return self.detector
            with takes_long(f"loading {model.path}"):
                return build_detector(model, decoders)

        return self.trial.load(model.path, load)

    def _next_lanes(self, todo: Plan, factories: Mapping[str, Callable[[str], Source]]) -> list[Lane]:
        """The lanes that stay, and new ones, whose cameras are not opened yet."""
        running = {lane.name: lane for lane in self.lanes}
        lanes = []
        for camera in todo.config.camera:
            old = running.get(camera.name)
            if old is not None and not reopens(old.config, camera):
                lanes.append(old)
                continue
            lanes.append(self._lane(todo.config, camera, factories))
            lanes[-1].paused = old is not None and old.paused
        return lanes

    def _install(self, new: Installation) -> None:
        """On the dispatcher, between two frames: nothing here can fail."""
        for lane, settings in new.retuned.items():
            retune(lane, settings)
        model = new.config.model
        new.detector.retune(
            score=detector_score(model), iou=model.iou, max_detections=model.max_detections, nms=model.nms
        )
        self.pipeline.rearrange(new.lanes, new.detector, model.score)
        old, self.detector, self.config = self.detector, new.detector, new.config
        if new.governing != self._governing:
            self._governing = new.governing
            self.steering = self._steering(new.governing)
        self._swaps = new.detector.swaps
        self._executor = new.executor
        self.control.climb(new.governing.rungs)
        if old is not new.detector:
            old.close()
        else:
            self._executor.more_cameras(len(new.lanes))

    def _remake_ladder(self) -> None:
        """On the dispatcher too: a better engine has come, with other costs."""
        if self.detector.swaps == self._swaps:
            return
        self._swaps = self.detector.swaps
        self._governing = governing(self.config, self.detector, self.detector.seconds())
        log.info("%s: another engine, another ladder: %d rungs", self.detector.name, len(self._governing.rungs))
        self.control.climb(self._governing.rungs)
        self.steering = self._steering(self._governing)

    def _steering(self, made_of: Governing) -> Steering:
        """Who goes up and down the ladder. Another one begins to learn anew what the rungs heat."""
        governor = None
        if made_of.options is not None:
            governor = Governor(made_of.steps, made_of.seconds, made_of.options, made_of.top)
        return Steering(governor, made_of.rungs, self.control.govern, self.host.choose_rung)

    def _finish_reload(self, fresh: Fresh) -> Sequence[str]:
        """What comes last: the plugin that carried the question may be among those that change."""
        hanging = self.host.change(fresh, PLUGIN_SHUTDOWN)
        self.monitor.use({**self.host.registry.sensors, **self._board})
        return hanging

    def _dispatch(self) -> None:
        try:
            self.pipeline.run()
        except BaseException as error:  # noqa: BLE001 - told by wait(), on the main thread
            self._failure = error
        finally:
            # Here, since what a GPU's engine holds belongs to the thread that made it.
            self.detector.close()
            self._ended.set()

    def wait(self, seconds: float | None = None) -> None:
        """Return when every recording has ended, ``seconds`` have passed, or ``stop_event`` is set.

        ``problem()`` then says whether anything went wrong.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        watchdog = Watchdog(watchdog_period(), lambda limit: self.pipeline.progress.stuck(time.monotonic(), limit))
        while not (self._ended.is_set() or self._stop_event.is_set()):
            watchdog.tend(time.monotonic())
            self._tell_start()
            rest = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
            if rest <= 0:
                break
            # A short wait on one event: a signal handler sets the other.
            self._ended.wait(rest)
            if self._reload_asked():
                self.reloading.ask()
        self._tell_start()

    def _tell_start(self) -> None:
        first_at = self.pipeline.counts.first_at
        if first_at is not None and not self._startup.complete:
            self._startup.ended("camera", first_at)
            log.info("%s", self._startup.line())

    def problem(self) -> BaseException | None:
        """What ended the dispatcher, or a recording before its end; None when all is well."""
        return self._failure or failure(self.lanes)

    def stop(self) -> None:
        """Stop capture, end open events, drain the plugins within a deadline, stop them, close the log."""
        notify("STOPPING=1", status("stopping"))
        self._stack.close()

    def _stop_host(self) -> None:
        if not self._drain():
            log.warning("not every plugin had taken its events when the agent stopped; durable ones go on next time")
        self.host.save_unfinished()
        self.host.stop(PLUGIN_SHUTDOWN)
        self._write_status(self.steering.told(self.health(self.monitor.latest)))

    def _drain(self) -> bool:
        """Wait for the plugins; a signal shortens that, also one that comes meanwhile."""
        started = time.monotonic()
        while not (drained := self.host.drain(0.2)):
            if time.monotonic() - started >= (DRAIN_ON_SIGNAL if self._stop_event.is_set() else DRAIN_AT_END):
                break
        return drained

    def _latest_frame(self, camera: str) -> Frame | None:
        return next((lane.capture.latest() for lane in self.lanes if lane.name == camera), None)

    def _zones(self, camera: str) -> dict[str, Sequence[tuple[float, float]]]:
        return {zone.name: zone.polygon for zone in self.config.zone if zone.camera == camera}

    def _tick(self, reading: Reading, now: float) -> None:
        self.host.check(now)
        if self.detector.swaps != self._swaps:
            self.pipeline.between_frames(self._remake_ladder)
        busy = self.pipeline.counts.busy_seconds
        (before, busy_before), self._busy = self._busy, (now, busy)
        share = min(1.0, (busy - busy_before) / (now - before)) if before < now else None
        health = msgspec.structs.replace(self.health(reading), busy=None if share is None else round(share, 4))
        health = self.steering.tick(health, now)
        self._executor.tick(self.pipeline, self.control.decision.rate, now)
        if self.trial.tick(self._look(now), now):
            self.reloading.ask(again=True)
        decision = self.control.decision
        health = msgspec.structs.replace(health, rung=decision.rung, rate=decision.rate, reason=decision.reason)
        self.host.offer_health(health)
        if now >= self._status_due:
            self._status_due = now + STATUS_PERIOD
            self._write_status(health)
            self.host.save_unfinished()
            if not self._stop_event.is_set():
                notify(status(status_line(health, self.reloading.told)))

    def _look(self, now: float) -> Look:
        """What the model does, for its trial: where a camera is up, and no better engine is being made ready."""
        ages = [age for lane in self.lanes if (age := lane.age_p95_ms(now)) is not None]
        is_up = any(lane.capture.status(now).state == "up" and not lane.paused for lane in self.lanes)
        is_ready = not isinstance(self._better, Upgrade) or self._better.finished.is_set()
        counts = self.pipeline.counts
        return Look(counts.inferred, counts.detections, max(ages, default=None), is_up and is_ready)

    def health(self, reading: Reading) -> Health:
        """The state of the node at this moment."""
        now = time.monotonic()
        counts = self.pipeline.counts
        statuses = self.host.statuses()
        return Health(
            node=self.config.node,
            at=time.time(),
            temperatures=reading.temperatures,
            cooling=reading.cooling,
            gpu_load=reading.gpu_load,
            gpu_mhz=reading.gpu_mhz,
            cpu_load=reading.cpu_load,
            own_load=reading.own_load,
            memory=reading.memory,
            rss_bytes=reading.rss_bytes,
            power_w=reading.power_w,
            rails=reading.rails,
            fan_rpm=reading.fan_rpm,
            cameras={lane.name: camera_health(lane, now) for lane in self.lanes},
            latency_ms=percentiles(list(counts.latency_ms)),
            frame_age_ms=percentiles(list(counts.frame_age_ms)),
            queues=self.host.queues(),
            drops=drops(self.lanes, statuses, now),
            plugins=statuses,
            log=self.log.health(),
            rung=self.control.decision.rung,
            rate=self.control.decision.rate,
            reason=self.control.decision.reason,
            reload=self.reloading.told,
            trial=self.trial.told,
            precision=self.detector.precision,
            precisions=self.detector.told,
            backend=self.detector.backend,
            choice=self.detector.why,
            execution=self._executor.told(),
        )

    def _write_status(self, health: Health) -> None:
        path = self.config.state_dir / "status.json"
        temporary = path.with_suffix(".json.new")
        try:
            temporary.write_bytes(to_json({**self._identity, "health": health}))
            temporary.replace(path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", path, error.strerror)

    def summary(self) -> dict[str, Any]:
        """What the run did, as ``run --json`` prints it."""
        counts = self.pipeline.counts
        now = time.monotonic()
        return {
            "cameras": {lane.name: camera_counts(lane, now) for lane in self.lanes},
            "detections": counts.detections,
            "events": {kind: counts.events[kind] for kind in ("start", "update", "end")},
            "plugins": {
                name: {"handled": status.handled, "failed": status.failed, "dropped": status.dropped}
                for name, status in self.host.statuses().items()
            },
            "frame_age_ms": percentiles(list(counts.frame_age_ms)),
            "seconds": round(now - self._started, 3),
        }


@contextlib.contextmanager
def only_daemon_of(state_dir: Path) -> Iterator[None]:
    """Make the state folder and hold its lock. Raises AgentError when it cannot be made or another daemon has it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise AgentError(f"{state_dir}: cannot hold state: {error.strerror}; set [agent] state_dir") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise AgentError(f"{state_dir}: another edgewarden uses it; give each its own [agent] state_dir") from None
    try:
        yield
    finally:
        os.close(handle)


def build_detector(
    config: ModelConfig, decoders: Mapping[str, type[Decoder]], store: SpeedStore | None = None
) -> EngineSet:
    """Load the model package and the engines of its usable precisions, and run one picture through each.

    ``decoders``: those of plugins. ``store``: the speeds measured on this machine.
    """
    package = find_package(config.path)
    store = store or SpeedStore()
    backend = begins_with(config)
    if config.precision == "auto":
        verdicts = judged(package, store, backend)
    else:
        verdicts = insisted(package, config.precision, store, backend)
    # bf16 is the fp32 graph itself: where it may be used, it is what works.
    usable = [precision for precision, one in verdicts.items() if one.verdict.usable]
    wanted = sorted(usable, key=lambda precision: precision != BF16)

    def load(precision: str) -> Detector:
        return _detector(config, package, verdicts[precision].variant, decoders)

    engines = load_within(wanted, load, config.memory, resident_bytes)
    engines.package = package
    refused = {name: f"refused: {one.verdict.reason}" for name, one in verdicts.items() if not one.verdict.usable}
    if BF16 in refused and config.backend == "auto" and not why_not("openvino", BF16):
        verdict = accurate(package)[BF16].verdict
        refused[BF16] = WAITS if verdict.usable else f"refused: {verdict.reason}"
    left_out = {one.precision: f"left out: {one.reason}" for one in engines.left_out}
    engines.weights = {name: weight_of(one.variant, package.choose()) for name, one in verdicts.items()}
    engines.told = {name: verdicts[name].verdict.reason for name in engines.precisions} | left_out | refused
    if config.device == "cuda":
        _offer_cuda(config, package, verdicts, decoders, engines)
    for precision, reason in engines.told.items():
        plain = (precision in engines.precisions or reason == WAITS) and "FORCED" not in reason
        level = logging.INFO if plain else logging.WARNING
        log.log(level, "%s: %s %s", package.name, precision, reason)
    return engines


def _offer_cuda(
    config: ModelConfig,
    package: ModelPackage,
    verdicts: Mapping[str, Judged],
    decoders: Mapping[str, type[Decoder]],
    engines: EngineSet,
) -> None:
    """Have the dispatcher load ONNX Runtime's CUDA engines before its first frame. Raises EngineError without CUDA."""
    from agent.engines.cuda.onnx import check_onnx, open_onnx

    check_onnx()

    def load(precision: str) -> Detector:
        variant = verdicts[precision].variant
        engine = open_onnx(
            package.file_of(variant), strict_fp32=config.strict_fp32, optimisation=variant.optimisation or "all"
        )
        return _on_engine(config, package, variant, decoders, engine)

    for precision in engines.precisions:
        engines.offer(Offer(precision, partial(load, precision), lambda detector: detector.backend))


def begins_with(config: ModelConfig) -> Backend:
    """The engine on the processor that works from the first frame on. Raises EngineError where it cannot."""
    if config.backend == "auto":
        return backend_for(config.precision)
    if config.backend != "openvino":
        return "onnxruntime"
    if config.device == "cuda":
        raise EngineError('OpenVINO computes on the processor: set [model] device = "cpu", or another backend')
    version_of("openvino")
    return "openvino"


def build_better(config: Config, engines: EngineSet, decoders: Mapping[str, type[Decoder]]) -> Upgrade | Contest | None:
    """What may bring better engines while the set works: TensorRT's, else the fastest of those on the processor."""
    return build_upgrade(config, engines, decoders) or build_contest(config, engines, decoders)


def build_contest(config: Config, engines: EngineSet, decoders: Mapping[str, type[Decoder]]) -> Contest | None:
    """What measures the engines on the processor; None where there is but one, or the configuration has chosen."""
    model = config.model
    if model.backend != "auto" or model.device == "cuda" or begins_with(model) != "onnxruntime" or not is_installed():
        return None
    package = engines.package or find_package(model.path)
    named = {rung.precision for rung in config.governor.ladder} or ({model.precision} - {"auto"})
    judgements = {name: one for name, one in accurate(package).items() if not named or name in named}
    means = ContestMeans(
        package=package,
        speeds=SpeedStore(),
        standings={
            name: Standing(loss_of(one.variant), limit_of(one.variant), bool(one.variant.forced), name in named)
            for name, one in judgements.items()
            if name in engines.precisions or (one.verdict.usable and not why_not("openvino", name))
        },
        threads=mode_policy(model).mode.threads,
        load=lambda name, backend: _detector(
            model, package, judgements[name].variant, decoders, engines.threads, backend
        ),
        choosing=not named,
        memory=resident_bytes,
        budget=model.memory,
    )
    return Contest(engines, means)


def build_upgrade(config: Config, engines: EngineSet, decoders: Mapping[str, type[Decoder]]) -> Upgrade | None:
    """What brings TensorRT engines to the set while ONNX Runtime works; None where they are not wanted or cannot be.

    Raises EngineError where ``[model] backend`` names TensorRT and it cannot run here.
    """
    tensorrt = wanted_tensorrt(config.model, engines)
    if tensorrt is None:
        return None
    package = engines.package or find_package(config.model.path)
    named = {rung.precision for rung in config.governor.ladder} or ({config.model.precision} - {"auto"})
    judgements = [one for name, one in buildable(package).items() if not named or name in named]
    if config.model.precision != "auto":  # as for ONNX Runtime: who names one has decided
        judgements = [as_named(one) for one in judgements]
    means = Means(
        package=package,
        tensorrt=tensorrt,
        plans=PlanStore(),
        speeds=SpeedStore(),
        open_detector=lambda engine, variant: _on_engine(config.model, package, variant, decoders, engine),
        build=config.model.build,
        mode=power_mode(),
    )
    return Upgrade(engines, means, judgements, choosing=not named)


def wanted_tensorrt(config: ModelConfig, engines: EngineSet | None = None) -> TensorRT | None:
    """TensorRT, where the configuration allows it and it runs here; ``engines`` is told why not.

    Raises EngineError where it is asked for by name.
    """
    if config.backend in ("onnxruntime", "openvino") or (config.backend == "auto" and config.device == "cpu"):
        return None
    try:
        return find_tensorrt()
    except EngineError as error:
        if config.backend == "tensorrt":
            raise EngineError(f'{error}; or set [model] backend = "auto"') from None
        log.info("ONNX Runtime is the engine: %s", error)
        if engines is not None:
            engines.why = f"ONNX Runtime, since {error}"
        return None


def build_executor(
    config: Config, engines: EngineSet, decoders: Mapping[str, type[Decoder]], lanes: Sequence[Lane]
) -> Executor:
    """Who decides how many threads and frames at a time the engines use, and has it so from the first frame on."""
    model, package = config.model, engines.package or find_package(config.model.path)
    variants: dict[str, Variant] = {variant.precision: variant for variant in package.variant}

    def load(precision: str, threads: int) -> Detector:
        return _detector(model, package, variants[precision], decoders, threads, backend_of(engines.backend))

    executor = Executor(engines, mode_policy(model), load)
    executor.begin(any(not lane.realtime for lane in lanes), len(lanes))
    return executor


def mode_policy(config: ModelConfig) -> ModePolicy:
    """What ``mode``, ``threads`` and ``slots`` say."""
    if config.mode == "auto":
        return ModePolicy(levels(cores(), config.threads, config.slots))
    return ModePolicy([fixed(config.mode, cores(), config.threads, config.slots)])


def _detector(
    config: ModelConfig,
    package: ModelPackage,
    variant: Variant,
    decoders: Mapping[str, type[Decoder]],
    threads: int | None = None,
    backend: Backend | None = None,
) -> Detector:
    """``threads``, ``backend``: by default those that the daemon begins with."""
    engine = open_engine(
        backend or begins_with(config),
        package.file_of(variant),
        precision=variant.precision,
        optimisation=variant.optimisation or "all",
        threads=threads or mode_policy(config).mode.threads,
    )
    return _on_engine(config, package, variant, decoders, engine)


def _on_engine(
    config: ModelConfig,
    package: ModelPackage,
    variant: Variant,
    decoders: Mapping[str, type[Decoder]],
    engine: Engine,
) -> Detector:
    """The package's detector as configured, on any engine, warm."""
    detector = Detector(
        package,
        engine,
        score=detector_score(config),
        iou=config.iou,
        max_detections=config.max_detections,
        precision=variant.precision,
        decoders=decoders,
        nms=config.nms,
    )
    detector.warm_up()
    return detector


def resident_bytes() -> int:
    """How much memory this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def build_source(camera: CameraConfig, factories: Mapping[str, Callable[[str], Source]]) -> Source:
    """The source that a camera's table names; nothing is opened yet. ``factories``: those of plugins."""
    options = SourceOptions(
        username=camera.username,
        password=read_secret(camera.password_file, f"camera {camera.name}") if camera.password_file else None,
        fps=camera.fps,
        stall_after=camera.stall_after,
        size=camera.size,
        format=camera.format,
        controls={str(name): value for name, value in camera.controls.items()},
        sensor_mode=camera.sensor_mode,
        hardware_decode=camera.hardware_decode,
        # At its own pace one thread is enough, and holds the fewest pictures.
        decode_threads=1 if camera.realtime else None,
    )
    return open_source(camera.source, options=options, factories=factories)


class Governing(NamedTuple):
    """What the governor is made of: the ladder with its costs, the options, None where nothing is governed."""

    rungs: list[Rung]
    steps: list[Step]
    seconds: Mapping[str, float]
    options: Options | None
    top: float


def governing(config: Config, engines: EngineSet, seconds: Mapping[str, float]) -> Governing:
    """The ladder, as configured or made of what was measured, and who goes up and down it. Raises ConfigError."""
    top = sum(camera.fps or ASSUMED_FPS for camera in config.camera)
    costs = {name: Cost(took, engines.weights.get(name, 1.0)) for name, took in seconds.items()}
    # What is slower than the precision that was chosen is no way down from it.
    useful = {name: cost for name, cost in costs.items() if cost.seconds <= seconds.get(engines.chosen, math.inf)}
    rungs = configured_ladder(config, engines) or ladder.make(useful, top)
    # Until an expected engine is there, its rung is taken to cost the most.
    costs |= {rung.precision: Cost(max(seconds.values()), 1.0) for rung in rungs if rung.precision not in costs}
    options = governor_options(config) if config.governor.enabled else None
    return Governing(rungs, ladder.weigh(rungs, costs, top), seconds, options, top)


def configured_ladder(config: Config, engines: EngineSet) -> list[Rung]:
    """As configured. Raises ConfigError for a precision that cannot be used."""
    rungs = [Rung(rung.precision, rung.rate) for rung in config.governor.ladder]
    for number, rung in enumerate(rungs):
        if rung.precision not in (*engines.precisions, *engines.expected):
            known = ", ".join(f"{name}: {why}" for name, why in engines.told.items())
            raise ConfigError(f"governor.ladder[{number}].precision: {rung.precision} cannot be used ({known})")
    return rungs


def start_better(upgrade: Upgrade | Contest | None) -> None:
    """Begin to bring better engines, where there may be any."""
    if upgrade is not None:
        upgrade.start()


def stop_better(upgrade: Upgrade | Contest | None) -> None:
    """Bring no more."""
    if upgrade is not None:
        upgrade.stop()


def detector_score(config: ModelConfig) -> float:
    """What the detector reports: more than is told, for the tracker uses doubtful detections too."""
    return min(config.score, DOUBTFUL_SCORE)


class Installation(NamedTuple):
    """What is to hold from the next frame on, all of it made ready."""

    config: Config
    lanes: Sequence[Lane]
    retuned: Mapping[Lane, LaneSettings]
    detector: EngineSet
    executor: Executor
    governing: Governing


class LaneSettings(NamedTuple):
    """What a camera that goes on is to hold to from now on, made ready."""

    camera: CameraConfig
    tracker: TrackerSettings
    presence: Presence
    sieve: Sieve


def settings_of(config: Config, camera: CameraConfig) -> LaneSettings:
    """Raises ConfigError for a zone, line or mask that is none."""
    return LaneSettings(camera, tracker_settings(config), build_presence(config, camera), build_sieve(config, camera))


def retune(lane: Lane, settings: LaneSettings) -> None:
    """Other settings for a camera that goes on, between two frames; what is followed stays followed."""
    lane.config = settings.camera
    lane.tracker.retune(**settings.tracker)
    lane.events.use(settings.presence)
    lane.sieve = settings.sieve


def stop_captures(lanes: Sequence[Lane]) -> None:
    """Close their cameras, all at once; one that is stuck in its driver is left behind."""
    closing = [threading.Thread(target=lane.capture.stop, args=(3.0,), name=f"close-{lane.name}") for lane in lanes]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


def build_lane(
    config: Config,
    camera: CameraConfig,
    host: Host,
    pictures: BestPictures,
    wake: threading.Event,
    factories: Mapping[str, Callable[[str], Source]],
) -> Lane:
    """One camera with its source, its tracker and its events. ``pictures`` is shared by all cameras; ``factories``:
    sources of plugins."""
    capture = Capture(
        camera.name,
        build_source(camera, factories),
        realtime=camera.realtime,
        fps=camera.fps,
        stall_after=camera.stall_after,
        rotate=camera.rotate,
        on_frame=wake.set,
    )
    tracker = Tracker(**tracker_settings(config))
    events = Events(
        camera.name,
        config.node,
        keep=host.keep,
        attributes=host.attributes,
        clock_synced=lambda: is_synced(time.time()),
        pictures=pictures,
        presence=build_presence(config, camera),
    )
    return Lane(camera, capture, tracker, events, build_sieve(config, camera))


class TrackerSettings(TypedDict):
    """Of a Tracker, as the configuration gives them."""

    patience: float
    min_hits: int
    start_score: float
    high_score: float
    confirm_score: float
    still_after: float
    still_patience: float


def tracker_settings(config: Config) -> TrackerSettings:
    """The same for every camera."""
    return TrackerSettings(
        patience=config.tracker.patience,
        min_hits=config.tracker.min_hits,
        start_score=config.model.score,
        high_score=config.model.score,
        confirm_score=config.tracker.confirm_score,
        still_after=config.tracker.still_after,
        still_patience=config.tracker.still_patience,
    )


def build_presence(config: Config, camera: CameraConfig) -> Presence:
    """The zones, lines and masks of a camera. Raises ConfigError for a polygon that is none."""
    zones = [zone for zone in config.zone if zone.camera == camera.name]
    lines = [line for line in config.line if line.camera == camera.name]
    try:
        return Presence(zones, lines, camera.mask)
    except ConfigError as error:
        raise ConfigError(f"camera {camera.name}: {error}") from None


def build_sieve(config: Config, camera: CameraConfig) -> Sieve:
    """The masks and limits of a camera. Raises ConfigError for a polygon that is none."""
    limits = [limit for limit in config.tracker.limit if not limit.cameras or camera.name in limit.cameras]
    try:
        return Sieve(camera.mask, limits)
    except ConfigError as error:
        raise ConfigError(f"camera {camera.name}: {error}") from None


def camera_counts(lane: Lane, now: float) -> dict[str, int]:
    """Pictures captured, inferred, and dropped (replaced by a newer one, or too old) of one camera."""
    status = lane.capture.status(now)
    return {"captured": status.captured, "inferred": lane.inferred, "dropped": status.dropped + lane.stale}


def drops(lanes: Sequence[Lane], plugins: Mapping[str, PluginHealth], now: float) -> dict[str, int]:
    """What was let go: frames in all, and events by plugin."""
    frames = sum(camera_counts(lane, now)["dropped"] for lane in lanes)
    return {"frames": frames, **{name: plugin.dropped for name, plugin in plugins.items()}}


def governor_options(config: Config) -> Options:
    """What ``[governor]`` and the cameras say to the governor."""
    wanted = config.governor
    # Only what is live can be too old.
    ages = {camera.name: camera.max_age for camera in config.camera if camera.realtime}
    return Options(
        thermal=Settings(margin=wanted.margin, dwell=wanted.dwell),
        limit=wanted.limit,
        limits=wanted.limits,
        ignore=wanted.ignore,
        safe_rung=wanted.safe_rung,
        max_age=ages,
        needs_temperature=wanted.needs_temperature,
    )


def camera_health(lane: Lane, now: float) -> CameraHealth:
    """One camera's state for ``health``."""
    status = lane.capture.status(now)
    return CameraHealth(
        state="paused" if lane.paused and status.state in ("up", "starting") else status.state,
        reason=status.reason or ("by command" if lane.paused else ""),
        fps=round(lane.fps(now), 2),
        frame_age_ms=None if lane.last_age_ms is None else round(lane.last_age_ms, 1),
        frame_age_p95_ms=None if (age := lane.age_p95_ms(now)) is None else round(age, 1),
        **camera_counts(lane, now),
    )


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99 by nearest rank; zeros where nothing was measured."""
    ordered = sorted(values)
    return {
        name: round(ordered[math.ceil(len(ordered) * share) - 1], 2) if ordered else 0.0
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
    }
