"""Reloads under load with files of every kind: bad ones change nothing, good ones all, and nothing is lost or kept.

Twenty here; two hundred, with figures, in ``benchmarks/reload_soak.py``.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from reload_storm import FILES, TOLERANCE, File, Storm


def test_a_storm_of_reloads_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    storm = Storm(tmp_path)

    @settings(max_examples=20, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(FILES)
    def reload(file: File) -> None:
        storm.reload(file)

    try:
        before = storm.count()
        reload()
        after = storm.count()
    finally:
        storm.close()
    assert storm.done["taken"] > 4
    assert storm.done["refused"] > 4
    assert storm.oldest <= TOLERANCE, "a frame older than max_age was inferred"
    assert storm.lost() == []
    assert after.threads == before.threads
    assert after.descriptors <= before.descriptors
