"""`edgewarden doctor` on the real command line: what a configuration adds, exit codes, and no secret anywhere."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from daemon import edgewarden

SECRET = "hunter2-and-more"


def write(folder: Path, *, port: int = 1, more: str = "") -> Path:
    password = folder / "mqtt.password"
    password.write_text(SECRET)
    password.chmod(0o600)
    path = folder / "agent.toml"
    path.write_text(
        f'[agent]\nname = "node"\nstate_dir = "{folder / "state"}"\n'
        f'[[camera]]\nname = "door"\nsource = "rtsp://admin:{SECRET}@127.0.0.1:{port}/live"\n'
        '[[camera]]\nname = "usb"\nsource = "/dev/video-none"\n'
        f'[plugins.mqtt]\nhost = "127.0.0.1"\nport = {port}\nusername = "u"\npassword_file = "{password}"\n{more}'
    )
    return path


def rows(config: Path) -> dict[str, dict[str, Any]]:
    done = edgewarden("doctor", "--config", config, "--json")
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return {row["what"]: row for row in json.loads(done.stdout)}


@pytest.fixture
def port() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_a_configuration_names_is_looked_at_and_its_secrets_stay_secret(tmp_path: Path, port: int) -> None:
    config = write(tmp_path, port=port)
    config.chmod(0o644)
    told = rows(config)
    assert {row["state"] for name, row in told.items() if name in ("configuration", "model", "broker", "disk")} == {
        "ok"
    }
    assert told["camera door"]["found"] == f"127.0.0.1:{port} accepts connections"
    assert told["camera usb"]["state"] == "warn"
    assert told["secrets"]["advice"] == f"chmod o= {config}"
    assert told["secret plugins.mqtt.password_file"]["state"] == "ok"
    assert told["agent"]["state"] == "none"
    assert not (tmp_path / "state").exists(), "nothing is made"
    assert all(row["advice"] or row["state"] in ("ok", "none") for row in told.values())
    assert all(set(row) == {"what", "state", "found", "advice"} for row in told.values())


def test_a_wrong_configuration_is_a_finding_and_the_machine_is_told_all_the_same(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[[camera]]\nname = "door"\nsorce = "x"\n')
    done = edgewarden("doctor", "--config", config)
    assert done.returncode == 78
    assert "OpenCV" in done.stdout
    assert "look     configuration" in done.stdout
    assert f"edgewarden check --config {config}" in done.stdout
    assert "sorce" in done.stderr
    gone = edgewarden("doctor", "--config", tmp_path / "none.toml", "--json")
    assert gone.returncode == 69
    assert {row["what"] for row in json.loads(gone.stdout)} >= {"machine", "configuration"}


def test_faults_that_only_this_machine_shows_are_told_in_short(tmp_path: Path) -> None:
    config = write(tmp_path, more='[plugins.no_such]\nx = 1\n[[zone]]\ncamera = "door"\nname = "z"\n')
    config.write_text(config.read_text() + "polygon = [[0, 0], [1, 1], [0, 1], [1, 0]]\n")
    told = rows(config)["configuration"]
    assert told["state"] == "warn"
    assert "no_such" in told["found"]
    assert "more)" in told["found"]
