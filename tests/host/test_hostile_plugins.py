"""What plugins do that nobody expects: leave by SystemExit, give what cannot be told, cancel, never answer."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from plugin_fakes import checking, hosting
from waiting import wait_until

from agent import ConfigError, Event, Frame, PluginError, hookimpl
from agent.data import to_json
from agent.host.feeds import LogFeed
from agent.host.log import EVENTS, EventLog
from agent.host.pictures import Pictures
from agent.host.store import Entry
from agent.testing import PluginHarness, make_detections, make_event, make_frame


class Witness:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)


def test_a_plugin_that_exits_at_import_in_its_constructor_or_while_registering_is_disabled(tmp_path: Path) -> None:
    class Exits:
        def __init__(self) -> None:
            raise SystemExit(3)

    class Registers:
        @hookimpl
        def register_sources(self, register: Any) -> None:
            register("siren", object)
            raise SystemExit(3)

    with hosting(tmp_path, {"exits": Exits, "registers": Registers, "good": Witness}) as host:
        reasons = {name: (status.state, status.reason) for name, status in host.statuses().items()}
        assert reasons["exits"] == ("disabled", "cannot be loaded: SystemExit: 3")
        assert reasons["registers"] == ("disabled", "registering failed: SystemExit: 3")
        assert not host.registry.sources


def test_whatever_the_checks_of_a_plugin_raise_disables_it_alone(tmp_path: Path) -> None:
    class Property:
        @property
        def durable(self) -> Any:
            raise RuntimeError("not yet")

    class NoStruct(Witness):
        Config = dict

    class Picky(msgspec.Struct):
        def __post_init__(self) -> None:
            raise OSError("no such folder")

    class PostInit(Witness):
        Config = Picky

    class Command(Witness):
        @hookimpl
        def register_commands(self, register: Any) -> None:
            register("volume", dict, dict)

    bad = {"property": Property, "nostruct": NoStruct, "postinit": PostInit, "command": Command}
    with hosting(tmp_path, {**bad, "good": Witness}) as host:
        statuses = host.statuses()
        assert {name for name, status in statuses.items() if status.state == "disabled"} == set(bad)
        assert "OSError: no such folder" in statuses["postinit"].reason


def test_exiting_in_a_hook_is_a_failure_like_any_other(tmp_path: Path) -> None:
    class Exits(Witness):
        @hookimpl
        def on_event(self, event: Event) -> None:
            super().on_event(event)
            if event.id == "exit":
                raise SystemExit(0)

        @hookimpl
        def keep_event(self, event: Event) -> bool:
            raise SystemExit(0)

    exits = Exits()
    with hosting(tmp_path, {"exits": exits}) as host:
        assert host.keep(make_event())
        host.offer_events([(make_event(id="exit"), None), (make_event(id="after"), None)])
        wait_until(lambda: len(exits.events) == 2)
        assert host.statuses()["exits"].failed == 1


class EvilError(Exception):
    """As foreign libraries have them."""

    retry_after = "Wed, 21 Oct 2015 07:28:00 GMT"

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("error", [EvilError(), OSError("caf\udce9.jpg: gone"), ValueError("x" * 1_000_000)], ids=type)
def test_an_error_that_cannot_be_told_costs_nothing_but_the_call(error: Exception, tmp_path: Path) -> None:
    class Raises(Witness):
        @hookimpl
        def on_event(self, event: Event) -> None:
            super().on_event(event)
            if len(self.events) == 1:
                raise error

        @hookimpl
        def keep_event(self, event: Event) -> bool:
            raise error

    raises = Raises()
    with hosting(tmp_path, {"raises": raises}) as host:
        assert host.keep(make_event())
        host.offer_events([(make_event(), None)])
        wait_until(lambda: host.statuses()["raises"].failed == 1)
        status = host.statuses()["raises"]
        assert len(to_json(status)) < 2000
        assert status.state == "backing off"
        host.offer_events([(make_event(), None)])
        wait_until(lambda: len(raises.events) == 2, what="it is called again")


@pytest.mark.parametrize(
    "attributes",
    [{"x": object()}, {"x": "y" * 100_000}, {"x": "\udce9"}, {("a",): 1}, {"deep": {"set": threading.Lock()}}],
    ids=["object", "huge", "surrogate", "key", "deep"],
)
def test_attributes_that_cannot_be_told_are_left_out_and_count_against_the_plugin(
    attributes: dict[Any, Any], tmp_path: Path
) -> None:
    class Adds:
        @hookimpl
        def event_attributes(self, event: Event) -> Any:
            return attributes

    with hosting(tmp_path, {"adds": Adds}) as host:
        for _ in range(5):
            assert host.attributes(make_event(), None) == {}
        assert "taken away: event_attributes" in host.statuses()["adds"].reason


def test_numpy_answers_count_as_what_they_say(tmp_path: Path) -> None:
    class Mask:
        @hookimpl
        def keep_event(self, event: Event) -> Any:
            return np.zeros(3, bool)[1]

        @hookimpl
        def event_attributes(self, event: Event) -> Any:
            return {"depth": np.float32(1.5)}

    with hosting(tmp_path, {"mask": Mask}) as host:
        assert not host.keep(make_event())
        assert host.attributes(make_event(), None) == {"depth": 1.5}


def test_what_one_plugin_does_to_an_event_or_to_detections_no_other_sees(tmp_path: Path) -> None:
    class Scribbles:
        @hookimpl
        def on_event(self, event: Event) -> None:
            event.attributes["nested"].append("scribble")
            event.attributes["more"] = 1

        @hookimpl
        def on_detections(self, detections: Any) -> None:
            detections.boxes[:] = 0

    good, event, found = Witness(), make_event(attributes={"nested": []}), make_detections()
    with hosting(tmp_path, {"scribbles": Scribbles, "good": good}) as host:
        host.offer_events([(event, None)])
        host.offer_detections(found, make_frame())
        wait_until(lambda: host.drain(0.0) or host.statuses()["scribbles"].reason)
        wait_until(lambda: len(good.events) == 1)
        assert "ValueError" in host.statuses()["scribbles"].reason
    assert good.events[0].attributes == event.attributes == {"nested": []}
    assert found.boxes.any()


def test_an_async_hook_is_refused_and_an_asyncio_future_is_a_failure(tmp_path: Path) -> None:
    class Coroutine:
        @hookimpl
        async def on_event(self, event: Event) -> None: ...

    class Awaitable:
        @hookimpl
        def on_event(self, event: Event) -> Any:
            return asyncio.Future(loop=asyncio.new_event_loop())

    with hosting(tmp_path, {"coroutine": Coroutine, "awaitable": Awaitable}) as host:
        assert "on_event: async hooks" in host.statuses()["coroutine"].reason
        host.offer_events([(make_event(), None)])
        wait_until(lambda: host.statuses()["awaitable"].failed == 1)
        assert host.statuses()["awaitable"].handled == 0


class NeverAnswers:
    def __init__(self) -> None:
        self.futures: list[Future[None]] = []
        self.frames: list[weakref.ref[Frame]] = []

    @hookimpl
    def on_event(self, event: Event, frame: Frame) -> Future[None]:
        self.frames.append(weakref.ref(frame))
        self.futures.append(Future())
        return self.futures[-1]


def test_futures_that_never_complete_are_bounded_and_hold_no_picture(tmp_path: Path) -> None:
    never = NeverAnswers()
    frames = [make_frame(seq=number) for number in range(3)]
    alive = [weakref.ref(frame) for frame in frames]
    with hosting(tmp_path, {"never": never}, {"never": {"queue": 10}}) as host:
        for frame in frames:
            host.offer_events([(make_event(), frame)])
        wait_until(lambda: len(never.futures) == 3)
        frames.clear()
        del frame
        wait_until(lambda: not any(frame() for frame in alive), what="the pictures are let go")
        for number in range(1000):
            host.offer_events([(make_event(id=str(number)), None)])
        wait_until(lambda: host.statuses()["never"].dropped > 0)
        assert len(never.futures) < 500
        for future in list(never.futures):
            future.set_result(None)
        wait_until(lambda: host.statuses()["never"].handled >= 3)


def test_a_plugin_whose_work_is_futures_comes_back_from_being_set_aside(tmp_path: Path) -> None:
    class Recovers:
        def __init__(self) -> None:
            self.calls = 0

        @hookimpl
        def on_event(self, event: Event) -> Future[None]:
            self.calls += 1
            future: Future[None] = Future()
            if self.calls <= 5:
                future.set_exception(PluginError("away", retry_after=0.0))
            else:
                future.set_result(None)
            return future

    recovers = Recovers()
    with hosting(tmp_path, {"recovers": recovers}) as host:
        worker = host._workers["recovers"]
        for _ in range(5):
            host.offer_events([(make_event(), None)])
        wait_until(lambda: host.statuses()["recovers"].state == "set aside")
        with worker._changed:
            worker._temper.ready_at = 0.0  # as if the half minute had passed
        host.offer_events([(make_event(), None)])
        wait_until(lambda: host.statuses()["recovers"].state == "running")


class Nothing(msgspec.Struct):
    pass


def test_a_command_that_was_cancelled_is_not_run_and_does_not_hurt_its_owner(tmp_path: Path) -> None:
    class Owner:
        def __init__(self) -> None:
            self.entered, self.go = threading.Event(), threading.Event()

        @hookimpl
        def register_commands(self, register: Any) -> None:
            register("wait", Nothing, self._wait)
            register("ping", Nothing, lambda _: {"ok": True})

        def _wait(self, _: Nothing) -> dict[str, Any]:
            self.entered.set()
            self.go.wait(10)
            return {}

    owner = Owner()
    with hosting(tmp_path, {"owner": owner}) as host:
        first, second = host.command("wait", {}), host.command("wait", {})
        assert owner.entered.wait(5)
        assert second.cancel()
        first.cancel()
        owner.go.set()
        assert host.command("ping", {}).result(5) == {"ok": True}
        broken = host.command("ping", None)  # type: ignore[arg-type]
        assert isinstance(broken.exception(5), (PluginError, ConfigError, TypeError))


def test_a_listener_of_an_answer_that_exits_does_not_end_the_owners_thread(tmp_path: Path) -> None:
    class Owner(Witness):
        @hookimpl
        def register_commands(self, register: Any) -> None:
            register("ping", Nothing, lambda _: {"ok": self.go.wait(10)})

        go = threading.Event()

    def exit_(_: Any) -> None:
        raise SystemExit(1)

    owner = Owner()
    with hosting(tmp_path, {"owner": owner}) as host:
        host.command("ping", {}).add_done_callback(exit_)
        owner.go.set()
        assert host.command("ping", {}).result(5) == {"ok": True}


class Sender:
    @hookimpl
    def startup(self, agent: Any) -> None:
        self.outbox = agent.outbox("post")


def test_what_an_outbox_cannot_hold_is_refused_where_it_is_put(tmp_path: Path) -> None:
    with PluginHarness(Sender, state_dir=tmp_path) as harness:
        for payload, priority in ((["list"], 0), ("text", 0), (b"a", None), (b"a", 2**70)):
            with pytest.raises((TypeError, ValueError)):
                harness.plugin.outbox.put(payload, priority)
        harness.plugin.outbox.put(b"fine").result(5)


def test_a_listener_of_an_outbox_that_hangs_or_exits_does_not_stop_the_log(tmp_path: Path) -> None:
    go, entered = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        entered.set()
        go.wait(20)

    def leave(_: Any) -> None:
        raise SystemExit(1)

    with PluginHarness(Sender, state_dir=tmp_path) as harness:
        store = harness.log._journal._store
        assert store
        with store.transaction():  # so that it completes behind our backs
            for listener in (leave, hang):
                harness.plugin.outbox.put(b"a").add_done_callback(listener)
        assert entered.wait(5)
        assert harness.log.append([Entry(EVENTS, b"{}")]).result(5)
        go.set()
        harness.plugin.outbox.put(b"b").result(5)


def test_acknowledged_messages_never_come_back_and_are_not_remembered(tmp_path: Path) -> None:
    with PluginHarness(Sender, state_dir=tmp_path) as harness:
        outbox = harness.plugin.outbox
        for number in range(300):
            written = outbox.put(str(number).encode())
        written.result(10)
        taken: list[bytes] = []
        while (message := outbox.take(0.0)) is not None and len(taken) < 250:
            taken.append(message.payload)
            message.ack()
        assert len(taken) == len(set(taken)) == 250
        assert len(outbox._out) <= 1, "what was acknowledged is not carried along while there is a backlog"


def test_a_released_message_that_the_log_has_dropped_is_forgotten(tmp_path: Path) -> None:
    with PluginHarness(Sender, state_dir=tmp_path) as harness:
        outbox = harness.plugin.outbox
        outbox.put(b"a").result(5)
        message = outbox.take(5)
        harness.log.remove(message._number)  # stands for the log's trimming
        message.release(retry_after=0.01)
        assert outbox.take(0.2) is None
        assert not outbox._later


def test_a_message_that_is_no_event_is_skipped_and_counted(tmp_path: Path) -> None:
    class Durable(Witness):
        durable = True

    with PluginHarness(Durable, state_dir=tmp_path) as harness:
        harness.log.append([Entry(EVENTS, b'{"of": "another version"}'), Entry(EVENTS, to_json(make_event(id="good")))])
        wait_until(lambda: [event.id for event in harness.plugin.events] == ["good"])
        wait_until(lambda: harness.health.handled == 1)
        assert harness.health.dropped == 1
        harness.settle()


def test_a_log_that_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    class Durable(Witness):
        durable = True

    with PluginHarness(Durable, state_dir=tmp_path) as harness:
        read, broken = harness.log.read, threading.Event()

        def damaged(*args: Any) -> Any:
            broken.set()
            raise sqlite3.DatabaseError("database disk image is malformed")

        monkeypatch.setattr(harness.log, "read", damaged)
        harness.offer(make_event(id="good"))
        assert broken.wait(5)
        wait_until(lambda: "malformed" in harness.health.reason)
        monkeypatch.setattr(harness.log, "read", read)
        wait_until(lambda: [event.id for event in harness.plugin.events] == ["good"])


def test_the_pipeline_does_not_wait_for_a_disk_that_a_plugin_waits_for(tmp_path: Path) -> None:
    class Durable(Witness):
        durable = True

    with PluginHarness(Durable, state_dir=tmp_path) as harness:
        store = harness.log._journal._store
        assert store
        with store.transaction():  # a commit that takes its time
            harness.host._workers[harness.name].wake()
            done = threading.Event()

            def offer() -> None:
                for _ in range(50):
                    harness.offer(make_event())
                    harness.host.check(0.0)
                done.set()

            threading.Thread(target=offer, daemon=True).start()
            assert done.wait(5)
        wait_until(lambda: len(harness.plugin.events) == 50)


def test_a_cursor_at_messages_that_were_dropped_counts_as_drained(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db", max_bytes=2000)
    feed = LogFeed("slow", log, Pictures())
    log.append([Entry(EVENTS, to_json(make_event()))]).result(5)
    log.append([Entry("other", bytes(1900))]).result(5)
    wait_until(feed.drained)
    log.close()


def test_a_message_completed_while_it_is_told_again_counts_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    feed = LogFeed("a", log, Pictures())
    log.append([Entry(EVENTS, to_json(make_event(id=name))) for name in "ab"]).result(5)
    first, second = feed.take(), feed.take()
    assert first
    assert second
    assert first.failed()
    again = feed.take()
    assert again
    assert second.completed(), "by its first attempt"
    assert again.completed()
    assert not second.completed()
    assert feed.take() is None
    assert feed.drained()
    log.close()


def test_the_status_of_a_hanging_plugin_stays_while_its_old_futures_complete(tmp_path: Path) -> None:
    class Mixed:
        def __init__(self) -> None:
            self.future: Future[None] = Future()
            self.go = threading.Event()

        @hookimpl
        def on_event(self, event: Event) -> Any:
            if event.id == "first":
                return self.future
            self.go.wait(20)
            return None

    mixed = Mixed()
    with hosting(tmp_path, {"mixed": mixed}, {"mixed": {"deadline": 0.1}}) as host:
        host.offer_events([(make_event(id="first"), None), (make_event(id="second"), None)])
        wait_until(checking(host, lambda: host.statuses()["mixed"].state == "set aside"))
        mixed.future.set_result(None)
        wait_until(lambda: host.statuses()["mixed"].handled == 1)
        assert host.statuses()["mixed"].state == "set aside"
        mixed.go.set()
