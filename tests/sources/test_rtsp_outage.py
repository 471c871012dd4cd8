"""A real RTSP server, killed and started again on a cable that loses packets: `benchmarks/rtsp_outage.py`, short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

MODULES = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def test_after_each_of_five_outages_the_newest_frame_is_here_within_five_seconds() -> None:
    python = Path("/usr/bin/python3")
    if not python.exists() or subprocess.run([python, "-c", MODULES], capture_output=True, check=False).returncode:
        pytest.skip(
            "no RTSP server here: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly"
        )
    script = REPOSITORY / "benchmarks" / "rtsp_outage.py"
    command = [sys.executable, str(script), "--outages", "5", "--up", "1.5", "--loss", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert len(result["outages"]) == 5
    assert all(outage["back"] <= 5.0 for outage in result["outages"]), result["outages"]
    assert result["age_ms"]["p95"] <= 1000, result["age_ms"]
    assert max(result["descriptors"]) - result["descriptors"][0] <= 2, result["descriptors"]
    assert result["rss_growth_mb"] <= 8, result["rss_mb"]
