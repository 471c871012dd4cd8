"""What a tutorial's loop costs a frame: OpenCV reads the clip, numpy prepares and decodes, session.run as it comes."""

from __future__ import annotations

import argparse
import time

import cv2
from floor import session_of
from rounds import serve
from tutorial_steps import RECIPES


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    session = session_of(options.model, 0)
    name, recipe = session.get_inputs()[0].name, RECIPES[options.family]

    def over(frames: int) -> dict[str, float]:
        device, boxes = cv2.VideoCapture(options.clip), 0
        done, wall, spent = 0, time.perf_counter(), time.process_time()
        while done < frames:
            read, picture = device.read()
            if not read:
                break
            outputs = session.run(None, {name: recipe.preprocess(picture, options.side)})
            boxes += len(recipe.decode(outputs, options.side)[0])
            done += 1
        spent, wall = time.process_time() - spent, time.perf_counter() - wall
        device.release()
        return {"ms": wall / done * 1e3, "cpu_ms": spent / done * 1e3, "frames": done, "boxes": boxes}

    over(10)
    serve(lambda: over(options.frames))


if __name__ == "__main__":
    main()
