"""`edgewarden detect` beside a one-by-one loop: pictures a second over the same thousand pictures.

    python benchmarks/batch_detect.py --images DIR --model PACKAGE [--pictures 1000] [--rounds 3] [--json]

The loop is the one of tutorials: read a picture, detect, append a line; with the same engine on all cores. Both run in
processes of their own, in interleaved rounds; start-up counts for both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOOP = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import cv2
from agent.data import Frame
from agent.detection.detector import Detector
from agent.detection.model import find_package
from agent.engines.onnx import OnnxEngine
package = find_package(sys.argv[2])
detector = Detector(package, OnnxEngine(package.file_of(package.choose())))
with open(sys.argv[4], "w") as out:
    for seq, path in enumerate(sorted(Path(sys.argv[3]).iterdir())):
        found = detector.detect(Frame("loop", seq, cv2.imread(str(path)), 0.0, 0.0))
        rows = zip(found.labels, found.scores.tolist(), found.boxes.tolist())
        out.write(json.dumps({"file_name": path.name, "detections": list(rows)}) + "\\n")
"""


def timed(command: list[str]) -> float:
    """Seconds of a process that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures, used again and again")
    parser.add_argument("--model", default="desk", help="model package (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=1000, help="how many (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder) / "many"
        seconds: dict[str, list[float]] = {"loop": [], "detect": []}
        many.mkdir()
        files = sorted(args.images.iterdir())
        for number in range(args.pictures):
            (many / f"{number:05d}{files[number % len(files)].suffix}").symlink_to(files[number % len(files)].resolve())
        for _ in range(args.rounds):
            loop = [sys.executable, "-c", LOOP, str(HERE.parent), args.model, str(many), f"{folder}/loop.jsonl"]
            seconds["loop"].append(timed(loop))
            out = ["--out", f"{folder}/out", "--restart"]
            seconds["detect"].append(
                timed([sys.executable, "-m", "agent", "detect", str(many), "-m", args.model, *out])
            )
    rates = {name: round(args.pictures / statistics.median(values), 1) for name, values in seconds.items()}
    ratio = statistics.median(a / b for a, b in zip(seconds["loop"], seconds["detect"], strict=True))
    if args.json:
        print(json.dumps({"pictures_a_second": rates, "ratio": round(ratio, 3), "rounds": args.rounds}))
    else:
        print(f"one by one {rates['loop']} pictures a second, detect {rates['detect']}, {ratio:.2f} x as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
