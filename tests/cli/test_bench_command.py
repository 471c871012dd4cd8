"""`edgewarden bench`: the table, the histogram, the JSON and the picture, for a user's own model and clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from daemon import edgewarden
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.histogram import bar, counts, edges, percentiles

milliseconds = st.lists(st.floats(0.0, 1e5), min_size=1, max_size=200)


@given(milliseconds)
def test_every_duration_is_in_one_bin(values: list[float]) -> None:
    limits = edges([values])
    assert sum(counts(values, limits)) == len(values)
    assert limits == sorted(set(limits))


@given(milliseconds, milliseconds)
def test_series_share_their_bins_so_that_they_can_be_compared(first: list[float], second: list[float]) -> None:
    limits = edges([first, second])
    assert limits[0] == min(first + second)
    assert len(counts(first, limits)) == len(counts(second, limits))


def test_one_outlier_does_not_squeeze_the_rest_into_one_bin() -> None:
    values = [10.0 + number / 100 for number in range(199)] + [900.0]
    found = counts(values, edges([values]))
    assert sum(1 for count in found if count) > 10
    assert found[-1] >= 1


def test_no_durations_are_no_histogram() -> None:
    with pytest.raises(ValueError, match="no durations"):
        edges([[], []])


def test_a_bin_that_is_not_empty_can_be_seen() -> None:
    shown = bar([0, 1, 1000])
    assert shown[0] == " "
    assert shown[1] != " "
    assert shown[2] == "█"
    assert bar([0, 0]) == "  "


def test_percentiles_are_durations_that_occurred() -> None:
    assert percentiles([float(number) for number in range(1, 101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0}


def test_bench_tells_of_a_users_clip_with_a_histogram_in_json_and_as_a_picture(material: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    clip, picture = material / "video" / "rf_example_video.mp4", tmp_path / "latency.png"
    few = ("--rounds", "3", "--frames", "6")
    done = edgewarden("bench", "--source", clip, *few, "--picture", picture, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (report,) = told["precisions"]
    assert set(report["contestants"]) == {"engine", "detector", "whole frame"}
    for name, found in report["histogram"]["counts"].items():
        assert sum(found) == 18
        assert report["contestants"][name]["p50"] <= report["contestants"][name]["p99"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_prints_the_histogram_for_a_person() -> None:
    done = edgewarden("bench", "--rounds", "3", "--frames", "5")
    assert done.returncode == 0, done.stderr
    assert "histogram" in done.stdout
    assert "p99" in done.stdout


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = edgewarden("bench", "--rounds", "3", "--frames", "5", "--picture", tmp_path / "nowhere" / "a.png")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
