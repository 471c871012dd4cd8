"""tegrastats: each recorded line is understood as a person reads it, and no line is too strange to be survived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from agent.errors import AgentError
from agent.governor.sensors.tegrastats import TegrastatsSensor, Unit, parse, reading

EXPECTED = Path(__file__).parent / "tegrastats_read_by_a_person.json"
"""A unit is ``[percent, [MHz, …]]`` or "off", a rail ``[now, average, most]`` in mW, memory ``[used, total]`` in MB."""


def _samples(material: Path) -> list[dict[str, Any]]:
    text = (material / "jetson" / "tegrastats_samples.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _unit(unit: Unit | None) -> Any:
    if unit is None or not unit.on:
        return None if unit is None else "off"
    return [None if unit.load is None else round(unit.load * 100), list(unit.mhz)]


def test_every_recorded_line_says_what_a_person_reads_in_it(material: Path) -> None:
    samples, expected = _samples(material), json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert len(samples) == len(expected) == 23
    for sample, wanted in zip(samples, expected, strict=True):
        told = parse(sample["line"])
        found = {
            "board": sample["board"],
            "stamp": told.stamp,
            "ram": list(told.ram) if told.ram else None,
            "swap": list(told.swap) if told.swap else None,
            "cores": [_unit(core) for core in told.cores],
            "gpu": _unit(told.gpu),
            "memory_clock": _unit(told.memory_clock),
            "engines": {name: _unit(unit) for name, unit in told.engines.items()},
            "temperatures": told.temperatures,
            "unpowered": list(told.unpowered),
            "rails": {name: [rail.now, rail.average, rail.most] for name, rail in told.rails.items()},
        }
        assert found == wanted, sample["line"]


def test_the_expectations_are_those_of_the_lines_and_not_of_the_parser(material: Path) -> None:
    """Counted with nothing but str.count: every rail, zone, core and engine of the line is in the expectations."""
    for sample, wanted in zip(_samples(material), json.loads(EXPECTED.read_text(encoding="utf-8")), strict=True):
        words = sample["line"].split()
        zones = [word for word in words if word.endswith("C") and "@" in word]
        assert len(zones) == len(wanted["temperatures"]) + len(wanted["unpowered"])
        pairs = [word for word in words if "/" in word and word.replace("mW", "").replace("/", "").isdigit()]
        assert len(pairs) == len(wanted["rails"]) + words.count("NC")
        cores = sample["line"].split("CPU [")[1].split("]")[0]
        assert (cores.count(",") + 1, cores.count("off")) == (len(wanted["cores"]), wanted["cores"].count("off"))
        assert ("GR3D_FREQ" in words, "EMC_FREQ" in words, "SWAP" in words) == (
            wanted["gpu"] is not None,
            wanted["memory_clock"] is not None,
            wanted["swap"] is not None,
        )


def test_a_reading_leaves_out_what_is_no_temperature(material: Path) -> None:
    by_board = {sample["board"]: reading(sample["line"]) for sample in _samples(material)}
    assert "PMIC" not in by_board["TX1"].temperatures
    assert by_board["AGX Xavier"].power_w == pytest.approx(0.311 + 0.932 + 0.621 + 1.482)
    assert by_board["AGX Thor"].power_w == pytest.approx(87.426)
    assert by_board["Orin Nano Super 8GB"].gpu_load == pytest.approx(0.99)
    assert by_board["TX2"].cpu_load == pytest.approx(0.01)


WORDS = st.sampled_from(
    [
        *"[]@",
        "RAM",
        "SWAP",
        "CPU",
        "off",
        "GR3D_FREQ",
        "99%",
        "@[305,305]",
        "/mW",
        "12/34MB",
        "tj@-256C",
        "a@1C/",
        "5mW/6mW",
    ]
)


@given(line=st.one_of(st.text(), st.lists(WORDS).map(" ".join)))
def test_no_line_is_too_strange(line: str) -> None:
    told = reading(line)
    assert all(-40 <= zone.celsius <= 150 for zone in told.temperatures.values())


def _program(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "tegrastats"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_program_is_kept_running_and_its_newest_line_read(tmp_path: Path, material: Path) -> None:
    sample = material / "jetson" / "tegrastats_samples.txt"
    sensor = TegrastatsSensor([str(_program(tmp_path, f"cat {sample}; echo 'tj@61.5C'; exec sleep 600"))])
    try:
        wait_until(lambda: sensor._newest and "61.5" in sensor._newest[1])
        assert sensor.read().temperatures["tj"].celsius == 61.5
    finally:
        sensor.close()
    assert not sensor._thread.is_alive()


def test_a_program_that_ended_is_told_by_its_code(tmp_path: Path) -> None:
    sensor = TegrastatsSensor([str(_program(tmp_path, "exit 3"))])
    wait_until(lambda: sensor._process.poll() is not None)
    with pytest.raises(OSError, match="ended with code 3"):
        sensor.read()
    sensor.close()


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(AgentError, match="no-such-program: cannot be started"):
        TegrastatsSensor(["no-such-program"])
