"""A plugin cannot hurt the daemon: it fails, hangs, hoards or is wrong, and is named; the others miss nothing."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugin_fakes import checking, hosting
from waiting import wait_until

from agent import Agent, ConfigError, Event, Frame, Health, PluginError, hookimpl
from agent.host.log import EventLog
from agent.testing import PluginHarness, make_detections, make_event, make_frame


class Witness:
    """A good plugin that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.frames: list[bool] = []

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> None:
        self.events.append(event)
        self.frames.append(frame is not None)


class DurableWitness(Witness):
    durable = True


class Raises:
    @hookimpl
    def on_event(self, event: Event) -> None:
        raise ValueError("no luck")


class Hangs:
    def __init__(self) -> None:
        self.let_go = threading.Event()

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.let_go.wait(20)


class Hoards:
    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.empty = 0

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> None:
        if frame is None:
            self.empty += 1
        else:
            self.kept.append(frame.pixels[1:])


def test_four_bad_plugins_at_once_are_named_and_the_good_ones_miss_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, durable, hangs, hoards = Witness(), DurableWitness(), Hangs(), Hoards()
    plugins = {
        "good": good,
        "durable": durable,
        "raises": Raises(),
        "hangs": hangs,
        "hoards": hoards,
        "missing": ImportError("No module named 'siren'"),
    }
    tables = {name: {"deadline": 0.2, "frame_budget": 50_000} for name in plugins}
    sent = [make_event(id=str(number)) for number in range(40)]
    with hosting(tmp_path, plugins, tables) as host:
        for event in sent:
            host.offer_events([(event, make_frame())])
        wait_until(checking(host, lambda: len(good.events) == len(durable.events) == len(sent)))
        wait_until(checking(host, lambda: host.statuses()["hangs"].state == "set aside"))
        wait_until(lambda: hoards.empty + len(hoards.kept) == len(sent))
        statuses = host.statuses()
        hangs.let_go.set()
    assert [event.id for event in good.events] == [event.id for event in durable.events] == [e.id for e in sent]
    assert statuses["raises"].state == "backing off"
    assert statuses["raises"].reason == "on_event: ValueError: no luck"
    assert "on_event has been running for" in statuses["hangs"].reason
    assert sum(pixels.nbytes for pixels in hoards.kept) < 50_000 + 2 * make_frame().nbytes
    assert statuses["hoards"].withheld_frames == hoards.empty > 0
    assert (statuses["missing"].state, statuses["missing"].reason) == (
        "disabled",
        "cannot be loaded: ImportError: No module named 'siren'",
    )
    for name in ("raises", "hangs", "missing"):
        assert f"plugin {name}:" in caplog.text
    assert caplog.text.count("Traceback") == 1, "an exception is logged once per kind"
    hoards.kept.clear()
    gc.collect()


def test_misspelt_hooks_wrong_arguments_and_wrappers_are_refused_by_plugin_and_hook(tmp_path: Path) -> None:
    class Misspelt:
        @hookimpl
        def on_evnt(self, event: Event) -> None: ...

    class Wrong:
        @hookimpl
        def on_event(self, event: Event, picture: Frame) -> None: ...

    class Wraps:
        @hookimpl(wrapper=True)
        def on_event(self, event: Event) -> Any:
            yield

    with hosting(tmp_path, {"misspelt": Misspelt, "wrong": Wrong, "wraps": Wraps}) as host:
        reasons = {name: status.reason for name, status in host.statuses().items()}
        assert reasons["misspelt"] == 'on_evnt: there is no such hook; did you mean "on_event"?'
        assert reasons["wrong"] == "on_event: the hook has no argument 'picture', it gives event, frame"
        assert reasons["wraps"].startswith("on_event: hook wrappers are not allowed")


class SirenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    volume: int = 3


def test_a_wrong_table_disables_the_plugin_and_a_table_of_nobody_stops_the_start(tmp_path: Path) -> None:
    class Siren(Witness):
        Config = SirenConfig

    with hosting(tmp_path / "a", {"siren": Siren}, {"siren": {"volum": 4, "queue": "long"}}) as host:
        reason = host.statuses()["siren"].reason
        assert 'plugins.siren.volum: unknown key; did you mean "volume"?' in reason
        assert 'plugins.siren.queue: expected a whole number, got "long"' in reason
    with pytest.raises(ConfigError, match=r'plugins.siern: .* did you mean "siren"'):
        hosting(tmp_path / "b", {"siren": Siren}, {"siern": {}}).__enter__()
    with hosting(tmp_path / "c", {"siren": Siren}, {"siren": {"enabled": False}}) as host:
        assert host.statuses()["siren"].reason == "by configuration"


def test_startup_that_asks_for_a_retry_gets_one_and_a_config_error_is_final(tmp_path: Path) -> None:
    class Shy(Witness):
        tries = 0

        @hookimpl
        def startup(self, agent: Any, config: Any) -> None:
            self.tries += 1
            if self.tries < 3:
                raise PluginError("not yet", retry_after=0.01)

    class Stubborn(Witness):
        @hookimpl
        def startup(self, agent: Any) -> None:
            raise ConfigError("volume: too loud")

    shy = Shy()
    with hosting(tmp_path, {"shy": shy, "stubborn": Stubborn}) as host:
        host.offer_events([(make_event(), None)])
        wait_until(lambda: len(shy.events) == 1, what="events wait for the startup")
        wait_until(lambda: host.statuses()["stubborn"].state == "disabled")
        assert shy.tries == 3


def test_a_durable_plugin_is_told_again_until_its_future_completes_and_the_cursor_waits(tmp_path: Path) -> None:
    class Slow:
        durable = True

        def __init__(self) -> None:
            self.calls: list[tuple[str, Future[None]]] = []

        @hookimpl
        def on_event(self, event: Event) -> Future[None]:
            future: Future[None] = Future()
            self.calls.append((event.id, future))
            return future

    with PluginHarness(Slow, state_dir=tmp_path) as harness:
        for name in "abc":
            harness.offer(make_event(id=name))
        calls = harness.plugin.calls
        wait_until(lambda: len(calls) == 3, what="several are under way at once")
        calls[0][1].set_result(None)
        calls[2][1].set_result(None)
        calls[1][1].set_exception(PluginError("lost", retry_after=0.01))
        wait_until(lambda: len(calls) == 4)
        assert calls[3][0] == "b"
        assert harness.health.handled == 2
        harness.restart()
        calls = harness.plugin.calls
        wait_until(lambda: len(calls) == 1)
        calls[0][1].set_result(None)
        harness.settle()
        assert [name for name, _ in calls] == ["b"], "what did not complete is told again after a restart, the rest not"


def test_what_waited_over_a_restart_is_late_and_says_since_when(tmp_path: Path) -> None:
    class Flaky(DurableWitness):
        broken = True

        @hookimpl
        def on_event(self, event: Event, frame: Frame | None) -> None:
            if Flaky.broken:
                raise PluginError("broker away", retry_after=60)
            super().on_event(event, frame)

    with PluginHarness(Flaky, state_dir=tmp_path) as harness:
        harness.offer(make_event(id="early"), make_frame())
        wait_until(lambda: harness.health.failed == 1)
        Flaky.broken = False
        harness.restart()
        harness.settle()
        harness.send(make_event(id="now"), make_frame())
        early, now = harness.plugin.events
    assert (early.id, early.late, now.id, now.late) == ("early", True, "now", False)
    assert early.queued_at == pytest.approx(now.captured_at, abs=60)
    assert harness.plugin.frames == [False, True]


def test_five_failures_in_a_row_set_a_plugin_aside(tmp_path: Path) -> None:
    class Impatient:
        @hookimpl
        def on_event(self, event: Event) -> None:
            raise PluginError("again", retry_after=0.0)

    with hosting(tmp_path, {"impatient": Impatient}) as host:
        for _ in range(8):
            host.offer_events([(make_event(), None)])
        wait_until(lambda: host.statuses()["impatient"].state == "set aside")
        assert host.statuses()["impatient"].reason == "on_event: PluginError: again, 5 times in a row"
        assert host.drain(5), "one that is set aside does not hold up the end"


def test_a_queue_that_overflows_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    hangs = Hangs()
    with hosting(tmp_path, {"hangs": hangs}, {"hangs": {"queue": 4}}) as host:
        for number in range(10):
            host.offer_events([(make_event(id=str(number)), None)])
        status = host.statuses()["hangs"]
        assert status.dropped + status.queued + (1 if status.dropped == 5 else 0) == 10
        assert status.queued == 4
        hangs.let_go.set()


def test_keep_event_can_drop_and_one_that_is_slow_or_raises_loses_its_say(tmp_path: Path) -> None:
    class Picky:
        @hookimpl
        def keep_event(self, event: Event) -> bool:
            return event.label == "person"

        @hookimpl
        def event_attributes(self, event: Event) -> dict[str, int]:
            return {"length": len(event.label)}

    class Broken:
        @hookimpl
        def keep_event(self, event: Event) -> bool:
            raise RuntimeError("oops")

    with hosting(tmp_path, {"picky": Picky, "broken": Broken}) as host:
        for _ in range(6):
            assert host.keep(make_event(label="person"))
            assert not host.keep(make_event(label="dog"))
        assert host.attributes(make_event(label="cat"), None) == {"length": 3}
        assert "taken away: keep_event: RuntimeError: oops" in host.statuses()["broken"].reason


def test_one_that_hangs_on_the_dispatcher_is_named_after_the_restart_and_left_out(tmp_path: Path) -> None:
    class Sticks:
        @hookimpl
        def keep_event(self, event: Event) -> bool:
            return False

    (tmp_path / "dispatcher.mark").write_bytes(b"sticks".ljust(128, b"\0"))
    with hosting(tmp_path, {"sticks": Sticks}) as host:
        assert host.keep(make_event())
        assert "hung on the dispatcher before this start" in host.statuses()["sticks"].reason


class Volume(msgspec.Struct):
    level: int


def test_a_command_runs_on_its_owners_thread_and_a_payload_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    class Owner:
        @hookimpl
        def register_commands(self, register: Any) -> None:
            register("volume", Volume, lambda args: {"level": args.level, "thread": threading.current_thread().name})

    class Rival(Owner):
        pass

    with hosting(tmp_path, {"owner": Owner, "rival": Rival}) as host:
        assert host.command("volume", {"level": 3}).result(5) == {"level": 3, "thread": "plugin-owner"}
        with pytest.raises(ConfigError, match=r"command volume.level: expected a whole number"):
            host.command("volume", {"level": "loud"}).result(5)
        with pytest.raises(PluginError, match=r"nobody owns it; did you mean \"volume\""):
            host.command("volum", {}).result(5)
        assert "belongs to plugin owner already" in host.statuses()["rival"].reason


def test_the_outbox_keeps_what_is_not_acknowledged_over_a_restart_highest_priority_first(tmp_path: Path) -> None:
    class Sender:
        @hookimpl
        def startup(self, agent: Any) -> None:
            self.outbox = agent.outbox("post")

    with PluginHarness(Sender, state_dir=tmp_path) as harness:
        for payload, priority in ((b"a", 0), (b"b", 0), (b"urgent", 5)):
            harness.plugin.outbox.put(payload, priority).result(5)
        first = harness.plugin.outbox.take(5)
        assert (first.payload, first.late) == (b"urgent", False)
        first.ack()
        second = harness.plugin.outbox.take(5)
        assert second.payload == b"a"
        second.release(retry_after=0.05)
        assert harness.plugin.outbox.take(5).payload == b"b", "others go on while one waits for its retry"
        assert harness.plugin.outbox.take(5).payload == b"a"
        assert harness.plugin.outbox.take(0.0) is None
        harness.restart()
        again = [harness.plugin.outbox.take(5) for _ in range(2)]
        assert [(message.payload, message.late) for message in again] == [(b"a", True), (b"b", True)]


def test_of_detections_only_the_newest_waits_and_events_are_not_starved_by_them(tmp_path: Path) -> None:
    class Busy(Witness):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []
            self.entered, self.go = threading.Event(), threading.Event()

        @hookimpl
        def on_detections(self, detections: Any) -> None:
            self.seen.append(detections.seq)
            self.entered.set()
            self.go.wait(10)

    busy = Busy()
    with hosting(tmp_path, {"busy": busy}) as host:
        host.offer_detections(make_detections(seq=0), make_frame())
        assert busy.entered.wait(5)
        for seq in range(1, 20):
            host.offer_detections(make_detections(seq=seq), make_frame())
        host.offer_events([(make_event(), None)])
        busy.go.set()
        wait_until(lambda: host.drain(0.0) and len(busy.seen) == 2)
        assert busy.seen == [0, 19]
        assert len(busy.events) == 1


def test_an_event_that_was_accepted_before_the_host_died_is_told_by_the_next_one(tmp_path: Path) -> None:
    with hosting(tmp_path, {"good": DurableWitness()}):
        pass
    log = EventLog(tmp_path / "events.db")
    from agent.data import to_json
    from agent.host.store import Entry

    log.append([Entry("events", to_json(make_event(id="orphan")))]).result(5)
    log.close()
    good = DurableWitness()
    with hosting(tmp_path, {"good": good}):
        wait_until(lambda: [event.id for event in good.events] == ["orphan"])


def test_the_newest_detections_of_one_camera_do_not_replace_those_of_another(tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.seen: list[tuple[str, int]] = []
            self.entered, self.go = threading.Event(), threading.Event()

        @hookimpl
        def on_detections(self, detections: Any) -> None:
            self.seen.append((detections.camera, detections.seq))
            self.entered.set()
            self.go.wait(10)

    slow = Slow()
    with hosting(tmp_path, {"slow": slow}) as host:
        host.offer_detections(make_detections(seq=0), make_frame())
        assert slow.entered.wait(5)
        for seq in (1, 2):
            for camera in ("door", "yard"):
                host.offer_detections(make_detections(camera=camera, seq=seq), make_frame())
        slow.go.set()
        wait_until(lambda: len(slow.seen) == 3)
        assert sorted(slow.seen[1:]) == [("door", 2), ("yard", 2)]


def test_a_plugin_whose_events_always_fail_is_set_aside_though_its_health_works(tmp_path: Path) -> None:
    class HalfWell:
        @hookimpl
        def on_event(self, event: Event) -> None:
            raise PluginError("no", retry_after=0.0)

        @hookimpl
        def on_health(self, health: Any) -> None: ...

    with hosting(tmp_path, {"half": HalfWell}) as host:
        for number in range(1, 6):
            host.offer_events([(make_event(), None)])
            host.offer_health(Health(node="node", at=0.0))
            wait_until(lambda number=number: host.statuses()["half"].failed == number)  # type: ignore[misc]
        wait_until(lambda: host.statuses()["half"].state == "set aside")


def test_a_plugin_in_trouble_runs_on_as_degraded_and_health_says_why_until_it_takes_that_back(tmp_path: Path) -> None:
    class Troubled:
        @hookimpl
        def startup(self, agent: Agent) -> None:
            self.agent = agent

        @hookimpl
        def on_event(self, event: Event) -> None:
            self.agent.trouble("the disk\nis full" if event.kind == "start" else "")

    with hosting(tmp_path, {"troubled": Troubled}) as host:
        host.offer_events([(make_event(), None)])
        wait_until(lambda: host.statuses()["troubled"].state == "degraded")
        assert host.statuses()["troubled"].reason == "the disk is full"
        host.offer_events([(make_event(kind="end"), None)])
        wait_until(lambda: host.statuses()["troubled"].state == "running")
        assert host.statuses()["troubled"].reason == ""
        assert host.statuses()["troubled"].failed == 0
