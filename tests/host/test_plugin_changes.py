"""Plugins put on, off and anew while the rest go on: no event is lost, and nothing of the old ones stays behind."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugin_fakes import checking, hosting
from waiting import wait_until

from agent import ConfigError, Event, hookimpl
from agent.host import gate
from agent.host.manager import Host
from agent.testing import make_event

Tables = dict[str, dict[str, Any]]


class Settings(msgspec.Struct, frozen=True):
    word: str = "first"


class Seen:
    """What the instances of one plugin class were told, by the word in their table."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.ended: list[str] = []
        self.gate = threading.Event()
        self.gate.set()


def witness(seen: Seen, lasting: bool = False) -> type:
    class Witness:
        Config = Settings
        durable = lasting
        word = ""

        @hookimpl
        def register_commands(self, register: Any) -> None:
            register("word", NoArgs, lambda _args: {"word": self.word})

        @hookimpl
        def startup(self, agent: Any, config: Settings) -> None:
            self.word = config.word
            agent.outbox("letters").put(b"x").result(10)

        @hookimpl
        def on_event(self, event: Event) -> None:
            seen.gate.wait(20)
            seen.events.append((self.word, event.id))

        @hookimpl
        def event_attributes(self, event: Event) -> dict[str, Any]:
            return {"word": self.word}

        @hookimpl
        def shutdown(self, agent: Any) -> None:
            seen.ended.append(self.word)

    return Witness


class NoArgs(msgspec.Struct):
    pass


def change(host: Host, tables: Tables, *names: str, timeout: float = 5.0) -> list[str]:
    return host.change(host.prepare(tables, names), timeout)


@pytest.mark.parametrize("lasting", [False, True])
def test_a_plugin_started_anew_misses_no_event_and_is_told_none_twice(
    tmp_path: Path, lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "LIMIT", 5.0)  # seconds of a busy machine; what is late is left out
    seen = Seen()
    sent = [make_event(id=f"{number:03}") for number in range(120)]
    with hosting(tmp_path, {"one": witness(seen, lasting)}) as host:
        for number, event in enumerate(sent):
            if number % 20 == 10:
                assert change(host, {"one": {"word": f"w{number}"}}, "one") == []
            host.offer_events([(event, None)])
        wait_until(lambda: len(seen.events) >= len(sent), 20)
        assert host.command("word", {}).result(5) == {"word": "w110"}
        assert host.attributes(sent[0], None) == {"word": "w110"}
        assert host.statuses()["one"].state == "running"
    assert [identity for _, identity in seen.events] == [event.id for event in sent]
    assert seen.ended == ["first", "w10", "w30", "w50", "w70", "w90", "w110"]


def test_a_plugin_comes_and_goes_with_all_that_it_brought(tmp_path: Path) -> None:
    seen = Seen()
    plugins = {"one": witness(seen), "two": witness(Seen())}
    with hosting(tmp_path, plugins, {}) as host:
        assert host.statuses() == {}
        change(host, {"one": {}}, "one")
        wait_until(lambda: host.command("word", {}).exception(5) is None)
        change(host, {"one": {"enabled": False}}, "one")
        assert (host.statuses()["one"].state, host.statuses()["one"].reason) == ("disabled", "by configuration")
        assert "nobody owns it" in str(host.command("word", {}).exception(5))
        assert host.attributes(make_event(), None) == {}
        change(host, {"two": {}}, "one", "two")
        assert set(host.statuses()) == {"two"}
        host.offer_events([(make_event(), None)])
    assert not seen.events


def test_what_is_wrong_with_a_new_table_changes_nothing(tmp_path: Path) -> None:
    plugins = {"one": witness(Seen()), "two": witness(Seen()), "gone": ImportError("no such module")}
    with hosting(tmp_path, plugins, {"one": {"word": "old"}}) as host:
        wait_until(lambda: host.statuses()["one"].state == "running")
        for tables, said in (
            ({"one": {"word": 3}}, "plugins.one: plugins.one.word: expected"),
            ({"one": {"word": "old"}, "two": {}}, "plugins.two: registering failed: ConfigError: command word belongs"),
            ({"one": {"word": "old"}, "gone": {}}, "plugins.gone: cannot be loaded"),
            ({"one": {"word": "old"}, "tow": {}}, "plugins.tow: no installed plugin"),
        ):
            with pytest.raises(ConfigError, match=said):
                host.prepare(tables, [name for name in tables if tables[name] != {"word": "old"}])
        assert host.command("word", {}).result(5) == {"word": "old"}
        assert set(host.statuses()) == {"one"}


def test_one_that_hangs_is_never_doubled_and_its_successor_starts_when_it_lets_go(tmp_path: Path) -> None:
    seen = Seen()
    with hosting(tmp_path, {"one": witness(seen)}) as host:
        wait_until(lambda: host.statuses()["one"].state == "running")
        seen.gate.clear()
        for number in range(3):
            host.offer_events([(make_event(id=str(number)), None)])
        wait_until(lambda: host.statuses()["one"].queued == 2)
        assert change(host, {"one": {"word": "second"}}, "one", timeout=0.1) == ["one"]
        assert not seen.events
        assert not seen.ended
        threads = [thread.name for thread in threading.enumerate()].count("plugin-one")
        assert threads == 1
        seen.gate.set()
        wait_until(checking(host, lambda: len(seen.events) == 3), 20, "the successor has what waited")
    assert seen.events == [("first", "0"), ("second", "1"), ("second", "2")]
    assert seen.ended == ["first", "second"]


def test_a_hundred_changes_leave_no_thread_and_no_plugin_behind(tmp_path: Path) -> None:
    seen = Seen()
    made: list[weakref.ref[Any]] = []
    kind = witness(seen, lasting=True)

    def make() -> Any:
        plugin = kind()
        made.append(weakref.ref(plugin))
        return plugin

    class Maker:
        def __new__(cls) -> Any:
            return make()

    with hosting(tmp_path, {"one": Maker}) as host:
        before = threading.active_count()
        for number in range(100):
            change(host, {"one": {"word": str(number)}}, "one")
        wait_until(lambda: threading.active_count() <= before + 1)
        gc.collect()
        assert sum(ref() is not None for ref in made) <= 2
