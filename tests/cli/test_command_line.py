"""The command line as a whole: help without heavy imports, errors in one line, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from daemon import edgewarden, write_config

HEAVY = ("onnxruntime", "cv2", "paho", "rich", "numpy", "onnx")


def _imported_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_agent_imports_nothing_heavy() -> None:
    assert not _imported_by("import agent; agent.hookimpl; agent.Event; agent.PluginError") & set(HEAVY)


def test_help_imports_nothing_heavy() -> None:
    statement = "import agent.cli\ntry: agent.cli.main(['--help'])\nexcept SystemExit: print()"
    assert not _imported_by(statement) & set(HEAVY)


def test_the_modules_of_shipped_plugins_load_late() -> None:
    assert not _imported_by("from agent.host.loading import inspect_plugins; inspect_plugins(None)") & {
        "paho",
        "cv2",
        "rich",
    }


def test_wrong_usage_is_exit_2_and_names_the_option() -> None:
    done = edgewarden("run", "--confg", "x")
    assert done.returncode == 2
    assert "--confg" in done.stderr


def test_an_unexpected_error_is_one_line_and_debug_shows_where(tmp_path: Path) -> None:
    words = ("plugins", "show", "nothing")
    plain, debug = edgewarden(*words), edgewarden(*words, "--debug")
    assert (plain.returncode, plain.stderr.count("\n")) == (69, 1)
    assert "Traceback" in debug.stderr


def test_plugins_list_names_what_ships_with_versions_and_hooks() -> None:
    done = edgewarden("plugins", "list", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {"mqtt", "alert", "snapshot"} <= set(rows)
    assert "on_event" in rows["mqtt"]["hooks"]
    assert rows["mqtt"]["version"]


def test_plugins_show_prints_the_keys_with_their_defaults() -> None:
    done = edgewarden("plugins", "show", "mqtt")
    assert done.returncode == 0
    assert "port = 1883" in done.stdout


def test_check_finds_everything_that_is_wrong_with_a_machine(tmp_path: Path) -> None:
    good = write_config(tmp_path / "good.toml", source="synthetic://desk", port=1883)
    assert edgewarden("check", "--config", good).returncode == 0
    missing = write_config(tmp_path / "missing.toml", source=tmp_path / "nothing.mp4", model="nothing")
    done = edgewarden("check", "--config", missing, "--json")
    assert done.returncode == 69
    results = {row["what"]: row["result"] for row in json.loads(done.stdout)}
    assert "no such" in results["model"]
    assert "nothing.mp4" in results["camera cam"]
    assert results["state folder"] == "ok"


def test_bench_prints_the_ratio_of_the_whole_frame_to_the_engine() -> None:
    done = edgewarden("bench", "--rounds", "3", "--frames", "5", "--layers", "4", "--json")
    report = json.loads(done.stdout)
    (fp32,) = report["precisions"]
    assert fp32["precision"] == "fp32"
    assert fp32["rss_bytes"] > 0
    costs = [layer["ms"] for layer in fp32["layers"]]
    assert len(costs) == 4
    assert costs == sorted(costs, reverse=True)
    contestants = report["contestants"]
    assert contestants["engine"]["ratio"] == 1.0
    assert set(contestants) == {"engine", "detector", "whole frame"}


def test_a_camera_that_is_stuck_in_its_driver_does_not_abort_the_process_at_its_end() -> None:
    program = """
import threading, cv2, numpy
pixels, ready = numpy.zeros((1000, 1000, 3), numpy.uint8), threading.Event()
def stuck():
    while True:
        cv2.GaussianBlur(pixels, (31, 31), 5)
        ready.set()
threading.Thread(target=stuck, name="camera-stuck", daemon=True).start()
ready.wait()
from agent.cli import main
main(["run", "--config", "nowhere.toml"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode > 0, "its own, not a signal's"
    assert "nowhere.toml" in done.stderr
    assert "terminate" not in done.stderr
