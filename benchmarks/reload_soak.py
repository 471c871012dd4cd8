"""200 reloads under load with random good and bad files: ``python benchmarks/reload_soak.py [--reloads N] [--seed S]``.

Prints what was taken and refused, the oldest frame that was inferred, what the two plugins miss, and what the process
holds at checkpoints, always with the same configuration in force. As many reloads again go before: memory grows until
each rare thing has happened a few times, reload or not. Exit code 1 when anything that must hold does not.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hypothesis import HealthCheck, Phase, given, seed, settings
from reload_storm import FILES, TOLERANCE, Counted, File, Storm

from agent.startup import hold_little

QUIET: dict[str, Any] = {
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "deadline": None,
}
MOST_GROWTH = 0.1
"""MB a reload. One checkpoint differs by some 10 MB from the next, as the allocator happens to stand: that is noise."""


def play(storm: Storm, reloads: int, number: int, checkpoints: int) -> None:
    """All of them, counting what is held now and then."""
    every = max(1, reloads // checkpoints)

    @seed(number)
    @settings(max_examples=reloads, **QUIET)
    @given(FILES)
    def reload(file: File) -> None:
        storm.reload(file)
        if sum(storm.done.values()) % (every + 1) == every:
            show(storm.count())

    reload()
    show(storm.count())


def show(held: Counted) -> None:
    print(f"{held.reloads:>7} {held.rss / 1e6:>9.1f} {held.threads:>8} {held.descriptors:>12}", flush=True)


def slope(counted: list[Counted]) -> float:
    """Memory, MB a reload, by least squares over the checkpoints."""
    return float(np.polyfit([one.reloads for one in counted], [one.rss / 1e6 for one in counted], 1)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=int, default=20)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    hold_little()
    print(f"{'reloads':>7} {'MB':>9} {'threads':>8} {'descriptors':>12}")
    with tempfile.TemporaryDirectory() as folder:
        storm = Storm(Path(folder))
        try:
            play(storm, arguments.reloads, arguments.seed + 1, arguments.checkpoints)
            begun = len(storm.counted) - 1
            print("measured from here on")
            play(storm, arguments.reloads, arguments.seed, arguments.checkpoints)
        finally:
            storm.close()
    measured = storm.counted[begun:]
    first, last = measured[0], measured[-1]
    counts, growth, lost = storm.app.pipeline.counts, slope(measured), storm.lost()
    print(f"taken {storm.done['taken']}, refused {storm.done['refused']}, the slowest {storm.slowest:.2f} s")
    print(f"frames inferred {counts.inferred}; the oldest was {storm.oldest:+.3f} s beyond its max_age")
    print(f"event messages {sum(counts.events.values())}, lost {len(lost)} {lost[:3] if lost else ''}")
    print(f"memory {growth:+.4f} MB a reload; threads {first.threads} -> {last.threads}, ", end="")
    print(f"descriptors {first.descriptors} -> {last.descriptors}")
    held = last.threads <= first.threads and last.descriptors <= first.descriptors and growth <= MOST_GROWTH
    return 0 if held and storm.oldest <= TOLERANCE and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
