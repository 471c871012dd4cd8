"""Our tracker at a hundred objects, and ByteTrack of `trackers` beside it where this interpreter has it: processor time
of a frame, the same detections for both, in turn."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rounds import serve

OBJECTS = 100


def main() -> None:
    """See the module."""
    from tracking import costs

    names = ["ours", *(["ByteTrack"] if importlib.util.find_spec("trackers") else [])]

    def round_() -> dict[str, float]:
        return {name: by_count[OBJECTS] for name, by_count in costs(names, (OBJECTS,), rounds=1).items()}

    round_()
    serve(round_)


if __name__ == "__main__":
    main()
