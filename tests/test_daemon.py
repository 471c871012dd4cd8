"""The whole street on real footage: a real clip, a real detector, a real broker, the real process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from broker import Mosquitto, Received, Subscriber
from daemon import Daemon, add_model, edgewarden, write_config
from waiting import wait_until

EVENTS = "edgewarden/node/camera/cam/events"


@pytest.fixture(scope="module")
def yolox(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOX-nano as a model package."""
    return add_model(tmp_path_factory.mktemp("models"), material / "models" / "yolox_nano_416.onnx", "yolox")


@pytest.fixture(scope="module")
def clip(material: Path) -> Path:
    """Six people, one after the other, walk into a room and out of it."""
    return material / "video" / "one-by-one-person-detection.mp4"


def _keys(messages: list[Received]) -> Counter[tuple[str, int]]:
    return Counter((event["id"], event["seq"]) for event in (json.loads(message.payload) for message in messages))


def _kinds(messages: list[Received]) -> Counter[str]:
    seen = {(event["id"], event["seq"]): event for event in (json.loads(message.payload) for message in messages)}
    return Counter(event["kind"] for event in seen.values())


@pytest.mark.parametrize("realtime", [False, True], ids=["frame by frame", "at its own pace"])
def test_six_people_walk_in_and_out_and_every_handled_event_arrives(
    realtime: bool, yolox: Path, clip: Path, tmp_path: Path
) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, EVENTS) as subscriber:
        config = write_config(
            tmp_path / "agent.toml",
            source=clip,
            model=yolox,
            port=broker.port,
            camera=f"realtime = {str(realtime).lower()}",
        )
        code, summary = Daemon(config).finish()
        assert code == 0
        received = subscriber.wait_for(summary["plugins"]["mqtt"]["handled"], topic=EVENTS)
    assert summary["events"]["start"] == summary["events"]["end"] == 6
    assert len(received) == summary["plugins"]["mqtt"]["handled"] == sum(summary["events"].values())
    assert _kinds(received) == Counter({kind: count for kind, count in summary["events"].items() if count})
    assert {json.loads(message.payload)["label"] for message in received} == {"person"}
    if not realtime:
        assert summary["cameras"]["cam"] == {"captured": 1394, "inferred": 1394, "dropped": 0}


def test_kill_9_of_daemon_and_broker_in_the_middle_loses_no_accepted_event(
    yolox: Path, clip: Path, tmp_path: Path
) -> None:
    broker = Mosquitto(tmp_path / "broker").start()
    config = write_config(
        tmp_path / "agent.toml", source=clip, model=yolox, port=broker.port, camera="realtime = false"
    )
    with Subscriber(broker.port, EVENTS) as subscriber:
        first = Daemon(config)
        subscriber.wait_for(3, timeout=90, topic=EVENTS)
        broker.kill()
        before = _accepted(tmp_path / "state")
        wait_until(lambda: len(_accepted(tmp_path / "state")) >= len(before) + 2, 90, "events while the broker is gone")
        first.kill()
        accepted = _accepted(tmp_path / "state")
        seen = len(broker.log)
        broker.start()
        # What reaches a broker before its subscriber is back is the broker's to lose: it forgets sessions at kill -9.
        wait_until(lambda: _is_back(broker.log[seen:]), what="the subscriber is back")
        code, summary = Daemon(config).finish()
        assert code == 0
        accepted |= _accepted(tmp_path / "state")
        subscriber.wait_until(
            lambda: set(_keys(subscriber.on(EVENTS))) >= accepted, 60, "every accepted event at the subscriber"
        )
    broker.stop()
    assert summary["plugins"]["mqtt"]["dropped"] == 0


def _is_back(log: str) -> bool:
    return "Sending SUBACK to test-" in log or re.search(r"Sending CONNACK to test-\w+ \(1, 0\)", log) is not None


def _accepted(state_dir: Path) -> set[tuple[str, int]]:
    """What the event log holds, read from outside as any tool could."""
    import sqlite3

    if not (state_dir / "events.db").exists():
        return set()
    with sqlite3.connect(f"file:{state_dir / 'events.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT payload FROM messages WHERE stream = 'events'").fetchall()
    return {(event["id"], event["seq"]) for event in (json.loads(row[0]) for row in rows)}


def test_sigterm_publishes_offline_ends_open_events_and_exits_0(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, "edgewarden/#") as subscriber:
        config = write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=15&seed=1", port=broker.port)
        daemon = Daemon(config)
        subscriber.wait_until(lambda: _kinds(subscriber.on(EVENTS))["start"] > 0, 60, "a start")
        daemon.terminate()
        code, summary = daemon.finish(timeout=30)
        subscriber.wait_until(
            lambda: [message.payload for message in subscriber.on("edgewarden/node/status")][-1:] == [b"offline"], 10
        )
        subscriber.wait_for(summary["plugins"]["mqtt"]["handled"], topic=EVENTS)
    assert code == 0
    assert summary["events"]["start"] == summary["events"]["end"]


def test_a_live_camera_that_is_missing_is_down_and_the_daemon_goes_on(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, "edgewarden/#") as subscriber:
        config = write_config(tmp_path / "agent.toml", source="http://127.0.0.1:9/video.mjpg", port=broker.port)
        daemon = Daemon(config)
        subscriber.wait_until(
            lambda: [m.payload for m in subscriber.on("edgewarden/node/camera/cam/status")] == [b"down"], 30
        )
        daemon.terminate()
        assert daemon.finish(timeout=30)[0] == 0


def test_two_daemons_do_not_share_a_state_folder(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=5")
    daemon = Daemon(config)
    wait_until(lambda: (tmp_path / "state" / "status.json").exists(), 30)
    second = edgewarden("run", "--config", config)
    daemon.terminate()
    assert daemon.finish()[0] == 0
    assert second.returncode == 1
    assert "another edgewarden uses it" in second.stderr


def _fails(config: Path, code: int, *fragments: str) -> None:
    done = edgewarden("run", "--config", config, timeout=60)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("edgewarden: ")]
    assert errors, done.stderr
    for fragment in fragments:
        assert any(fragment in line for line in errors), done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_exit_69(tmp_path: Path) -> None:
    _fails(write_config(tmp_path / "agent.toml", source=tmp_path / "nothing.mp4"), 69, "nothing.mp4")


def test_a_model_that_is_not_there_is_exit_69(tmp_path: Path) -> None:
    _fails(write_config(tmp_path / "agent.toml", source="synthetic://desk", model="nothing"), 69, "nothing")


def test_unknown_keys_are_exit_78_one_line_each(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk", camera='fsp = 5\ncolour = "x"')
    _fails(config, 78, 'camera[0].fsp: unknown key; did you mean "fps"?', "camera[0].colour: unknown key")


def test_a_table_that_no_plugin_claims_is_exit_78(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk", more="[plugins.mqqt]\n")
    _fails(config, 78, "mqqt", 'did you mean "mqtt"')


def test_a_fault_in_a_plugins_table_disables_that_plugin_and_the_rest_runs(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "agent.toml",
        source="synthetic://desk?fps=10",
        more=f'[plugins.mqtt]\nprot = 1\n[plugins.snapshot]\nfolder = "{tmp_path / "pictures"}"',
    )
    code, summary = Daemon(config, "--frames", "10").finish()
    assert code == 0
    assert "mqtt" in summary["plugins"]
    listed = json.loads(edgewarden("plugins", "list", "--config", config, "--json").stdout)
    states = {row["name"]: (row["state"], row["reason"]) for row in listed}
    assert states["mqtt"][0] == "disabled"
    assert "prot" in states["mqtt"][1]
    assert edgewarden("check", "--config", config).returncode == 78


def test_a_truncated_video_is_handled_to_its_end_and_named(material: Path, yolox: Path, tmp_path: Path) -> None:
    whole = (material / "video" / "classroom.mjpg.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    config = write_config(tmp_path / "agent.toml", source=tmp_path / "cut.avi", model=yolox, camera="realtime = false")
    done = edgewarden("run", "--json", "--config", config)
    assert done.returncode == 1
    assert "truncated" in done.stderr
    assert json.loads(done.stdout)["cameras"]["cam"]["inferred"] >= 15


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=5", port=9)
    daemon = Daemon(config)
    wait_until(lambda: (tmp_path / "state" / "status.json").exists(), 30)
    daemon.terminate()
    wait_until(lambda: daemon.process.poll() is not None or _signalled_again(daemon), 20)
    assert daemon.finish()[0] in (0, 143, -15)


def _signalled_again(daemon: Daemon) -> bool:
    daemon.terminate()
    return False


def test_a_refused_password_and_an_unwritable_folder_are_named_and_lose_no_event(
    yolox: Path, material: Path, tmp_path: Path
) -> None:
    (tmp_path / "in the way").write_text("a file where the folder should be")
    (tmp_path / "password").write_text("wrong\n")
    with Mosquitto(tmp_path / "broker", passwords={"agent": "right", "reader": "reads"}) as broker:
        config = write_config(
            tmp_path / "agent.toml",
            source=material / "video" / "classroom.mjpg.avi",
            model=yolox,
            camera="realtime = false",
            more=f'[plugins.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nusername = "agent"\n'
            f'password_file = "{tmp_path / "password"}"\n[plugins.snapshot]\nfolder = "{tmp_path / "in the way"}"\n',
        )
        with Subscriber(broker.port, EVENTS, username="reader", password="reads") as subscriber:
            first = Daemon(config)
            code, summary = first.finish()
            assert code == 0
            assert summary["events"]["start"] > 0
            assert summary["plugins"]["mqtt"]["handled"] == 0
            assert "refused the connection" in first.stderr
            assert "wrong" not in first.stderr, "no secret in the log"
            assert "in the way" in first.stderr
            (tmp_path / "password").write_text("right\n")
            code, _ = Daemon(config).finish()
            assert code == 0
            received = subscriber.wait_for(sum(summary["events"].values()) * 2, topic=EVENTS)
    events = [json.loads(message.payload) for message in received]
    late = [event for event in events if event["late"]]
    assert len(late) >= sum(summary["events"].values()), "what waited says so"
    assert set(_keys(received).values()) == {1}


def test_a_folder_with_a_zero_byte_picture_is_run_to_its_end(material: Path, yolox: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in sorted((material / "images" / "coco" / "val").glob("*.jpg"))[:3]:
        (pictures / path.name).write_bytes(path.read_bytes())
    (pictures / "empty.jpg").touch()
    config = write_config(tmp_path / "agent.toml", source=pictures, model=yolox, camera="realtime = false")
    daemon = Daemon(config)
    _, summary = daemon.finish()
    assert summary["cameras"]["cam"]["inferred"] == 3
    assert "empty.jpg" in daemon.stderr


def test_a_daemon_that_was_killed_ends_at_its_next_start_what_it_had_begun(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=15&seed=1")
    first, state = Daemon(config), tmp_path / "state"
    wait_until(lambda: (state / "status.json").exists() and bool(_open_events(state)), 60, "an open event")
    first.kill()
    left = _open_events(tmp_path / "state")
    assert left
    code, summary = Daemon(config, "--frames", "3").finish()
    assert code == 0
    assert _open_events(tmp_path / "state") == set()
    assert summary["events"]["start"] == summary["events"]["end"], "what it ended for another does not count as its own"


def test_lines_and_masks_of_the_configuration_hold_in_the_daemon(yolox: Path, material: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "agent.toml",
        source=material / "video" / "car-detection.mp4",
        model=yolox,
        camera="realtime = false\nmask = [{ polygon = [[0.0, 0.0], [0.36, 0.0], [0.36, 1.0], [0.0, 1.0]] }]",
        more='[[line]]\ncamera = "cam"\nname = "middle"\npoints = [[0.0, 0.5], [1.0, 0.5]]\nanchor = "centre"\n'
        'directions = ["down", "up"]',
    )
    code, summary = Daemon(config).finish()
    assert (code, summary["events"]["start"]) == (0, 2), "the two that drive up; those that come down are masked"
    crossings = [event["crossings"] for event in _logged(tmp_path / "state") if event["kind"] == "end"]
    assert [[(one["line"], one["direction"]) for one in each] for each in crossings] == [[("middle", "up")]] * 2


def _open_events(state_dir: Path) -> set[str]:
    """The occurrences that the log knows without an end."""
    events = _logged(state_dir)
    return {event["id"] for event in events} - {event["id"] for event in events if event["kind"] == "end"}


def _logged(state_dir: Path) -> list[dict[str, Any]]:
    """All events in the log, read from outside."""
    import sqlite3

    with sqlite3.connect(f"file:{state_dir / 'events.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT payload FROM messages WHERE stream = 'events' ORDER BY seq").fetchall()
    return [json.loads(row[0]) for row in rows]


RUN = "import sys\nfrom agent.cli import main\ntry:\n    main()\nfinally:\n    print(sys.getswitchinterval())\n"


def test_the_daemons_threads_take_turns_of_a_millisecond(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk")
    command = [sys.executable, "-c", RUN, "run", "--config", str(config), "--frames", "1"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert float(told.splitlines()[-1]) == pytest.approx(0.001)
