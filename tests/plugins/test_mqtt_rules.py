"""What the MQTT plugin decides without a broker: topics, when to reconnect, what is worth telling again."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import ConfigError, Health, PluginError
from agent.data import CameraHealth
from plugins.mqtt.config import MqttConfig, PublishArgs, Tls
from plugins.mqtt.reconnect import Outcome, Reconnect
from plugins.mqtt.security import read_password, tls_context, warn_if_exposed
from plugins.mqtt.streams import NewestOnly, States
from plugins.mqtt.topics import Topics, escape

NAMES = st.text(st.characters(codec=None), max_size=80)
FORBIDDEN = re.compile("[+#/\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")


@given(NAMES)
def test_any_name_becomes_one_harmless_topic_level(name: str) -> None:
    level = escape(name)
    assert level
    assert not FORBIDDEN.search(level)
    level.encode("utf-8")


@given(NAMES)
def test_an_escaped_name_can_be_read_back_so_two_names_never_share_a_topic(name: str) -> None:
    assert (unquote_to_bytes(escape(name)) if name else b"") == name.encode("utf-8", "surrogatepass")


@given(NAMES, NAMES)
def test_a_relative_topic_never_leaves_its_node(node: str, topic: str) -> None:
    topics = Topics("edgewarden", node if node != "all" else "x")
    full = topics.relative(topic)
    assert full.startswith(topics.root + "/")
    assert not FORBIDDEN.search(full.replace("/", ""))


def test_ordinary_names_stand_in_topics_as_they_are() -> None:
    topics = Topics("edgewarden", "Gate 7-ä")
    assert topics.camera("front_door.1", "events") == "edgewarden/Gate 7-ä/camera/front_door.1/events"
    assert topics.relative("alerts") == "edgewarden/Gate 7-ä/alerts"
    assert topics.camera("a/b+#", "status") == "edgewarden/Gate 7-ä/camera/a%2Fb%2B%23/status"


def test_the_name_that_addresses_every_node_is_no_nodes_name() -> None:
    with pytest.raises(ConfigError, match="'all' is reserved"):
        Topics("edgewarden", "all")


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.floats(0, 1e5), st.floats(0, 1)), max_size=60))
def test_no_wait_exceeds_its_cap_whatever_happened_before(history: list[tuple[Outcome, float, float]]) -> None:
    reconnect = Reconnect()
    for outcome, lasted, jitter in history:
        delay = reconnect.after(outcome, lasted, jitter)
        refusal = outcome in (Outcome.REFUSED, Outcome.UNSUPPORTED)
        assert 0 <= delay <= (30.0 if refusal else 4.0)
        assert reconnect.version in (4, 5)


def test_the_first_try_after_a_loss_is_quick_and_later_ones_are_spread() -> None:
    reconnect = Reconnect()
    assert reconnect.after(Outcome.SERVED, 100.0, 1.0) <= 0.25
    delays = [reconnect.after(Outcome.UNREACHABLE, 0.0, 1.0) for _ in range(8)]
    assert delays == sorted(delays)
    assert delays[-1] == 4.0
    assert reconnect.after(Outcome.UNREACHABLE, 0.0, 0.0) == 2.0


def test_a_broker_that_accepts_and_hangs_up_at_once_is_not_hammered() -> None:
    reconnect = Reconnect()
    assert [reconnect.after(Outcome.SERVED, 0.01, 1.0) for _ in range(6)][-1] == 4.0


def test_two_hang_ups_or_a_silence_change_the_version_unless_it_was_accepted_before_or_is_fixed() -> None:
    reconnect = Reconnect()
    reconnect.after(Outcome.HUNG_UP, 0.0, 1.0)
    assert reconnect.version == 5
    reconnect.after(Outcome.HUNG_UP, 0.0, 1.0)
    assert reconnect.version == 4
    reconnect.after(Outcome.SILENT, 0.0, 1.0)
    assert reconnect.version == 5
    fixed = Reconnect(5)
    assert [fixed.after(outcome, 0.0, 1.0) > 0 for outcome in (Outcome.SILENT, Outcome.UNSUPPORTED)] == [True, True]
    assert fixed.version == 5
    proven = Reconnect()
    proven.accepted()
    for _ in range(5):
        proven.after(Outcome.HUNG_UP, 0.0, 1.0)
    assert proven.version == 5


def test_a_broker_that_names_version_5_unsupported_is_asked_again_at_once_in_the_old_one() -> None:
    reconnect = Reconnect()
    assert reconnect.after(Outcome.UNSUPPORTED, 0.0, 1.0) == 0.0
    assert reconnect.version == 4
    assert reconnect.after(Outcome.UNSUPPORTED, 0.0, 1.0) > 0.0


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["a", "b"])), max_size=100))
def test_detections_keep_their_rate_and_the_last_word_is_always_told(steps: list[tuple[float, str]]) -> None:
    stream: NewestOnly[tuple[str, int]] = NewestOnly(2.0)
    now, told, last = 0.0, [], {}
    for n, (pause, camera) in enumerate(steps):
        now += pause
        last[camera] = n
        told += [(now, value) for value in [stream.offer(camera, (camera, n), now)] if value]
        told += [(now, value) for value in stream.due(now)]
    told += [(now + 1, value) for value in stream.due(now + 1)]
    for camera, newest in last.items():
        mine = [(at, n) for at, (name, n) in told if name == camera]
        assert mine[-1][1] == newest
        assert all(later[0] - earlier[0] >= 0.5 for earlier, later in itertools.pairwise(mine))
        assert [n for _, n in mine] == sorted({n for _, n in mine})


def test_a_rate_of_zero_tells_no_detections() -> None:
    stream: NewestOnly[int] = NewestOnly(0)
    assert stream.offer("a", 1, 0.0) is None
    assert stream.due(1e9) == []


def _health(rung: int = 0, **cameras: str) -> Health:
    states = {name: CameraHealth(state=state) for name, state in cameras.items()}  # type: ignore[arg-type]
    return Health(node="n", at=0.0, rung=rung, cameras=states)


def test_only_changes_of_a_camera_are_told_and_a_starting_one_says_nothing() -> None:
    states = States(10.0)
    assert states.update(_health(a="starting", b="up")) == {"b": "up"}
    assert states.update(_health(a="up", b="up")) == {"a": "up"}
    assert states.update(_health(a="up", b="ended")) == {"b": "down"}
    assert states.update(_health(a="starting", b="frozen")) == {"b": "frozen"}
    assert states.cameras == {"a": "up", "b": "frozen"}


def test_health_is_due_every_interval_and_when_the_rung_changes() -> None:
    states = States(10.0)
    assert not states.health_due(0.0)
    states.update(_health())
    assert [states.health_due(now) for now in (0.0, 1.0, 9.9, 10.0, 11.0)] == [True, False, False, True, False]
    states.update(_health(rung=1))
    assert states.health_due(12.0)
    assert not states.health_due(13.0)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({}, "host"),
        ({"host": ""}, "length >= 1"),
        ({"host": "b", "port": 0}, "port"),
        ({"host": "b", "prot": 1883}, "prot"),
        ({"host": "b", "password_file": "/x"}, "needs username"),
        ({"host": "b", "base": "a/#"}, "base"),
        ({"host": "b", "base": "a/"}, "slash"),
        ({"host": "b", "tls": {"key": "k"}}, "needs cert"),
        ({"host": "b", "max_snapshot_bytes": 5}, "max_snapshot_bytes"),
    ],
)
def test_a_wrong_key_is_named(keys: dict[str, object], fault: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(fault)):
        msgspec.convert(keys, MqttConfig)


def test_a_command_publishes_at_most_once_or_at_least_once_never_exactly_once() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"topic": "x", "payload": "", "qos": 2}, PublishArgs)


def test_a_password_that_all_may_read_is_warned_about_and_none_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(" horse \n", encoding="utf-8")
    secret.chmod(0o644)
    warn_if_exposed(str(secret))
    assert "chmod 600" in caplog.text
    assert read_password(str(secret)) == "horse"
    assert "horse" not in caplog.text
    caplog.clear()
    secret.chmod(0o600)
    warn_if_exposed(str(secret))
    assert caplog.text == ""
    secret.write_text("\n", encoding="utf-8")
    with pytest.raises(PluginError, match="is empty"):
        read_password(str(secret))


def test_tls_files_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"ca\.pem.*cannot be loaded"):
        tls_context(Tls(ca=str(tmp_path / "ca.pem")))
    assert tls_context(Tls()).minimum_version.name == "TLSv1_2"
