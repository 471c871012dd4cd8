"""Roboflow's InferencePipeline over a clip. Its own models come from its servers, so what it runs for each frame is a
tutorial's preprocessing, session.run and decoding, in the place that it has for code of one's own: what is measured is
its reading, its threads, its queues and its sinks around that.

Run by the interpreter of benchmarks/peers/make.py alone; nothing of ours depends on it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import threading
import time
from importlib.metadata import version
from typing import Any

from rounds import serve

os.environ |= {"OFFLINE_MODE": "True", "TELEMETRY_OPT_OUT": "True", "METRICS_ENABLED": "False"}
WITHIN = 60.0


class Sink:
    """Counts results, and stops the pipeline when there are enough. The clock starts with the first."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.done = -1
        self.wall = self.spent = 0.0
        self.over = threading.Event()

    def __call__(self, _predictions: Any, _frames: Any) -> None:
        self.done += 1
        if self.done == 0:
            self.wall, self.spent = time.perf_counter(), time.process_time()
        elif self.done == self.frames:
            self.wall, self.spent = time.perf_counter() - self.wall, time.process_time() - self.spent
            self.over.set()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    pipelines: Any = importlib.import_module("inference").InferencePipeline
    from floor import session_of
    from tutorial_steps import RECIPES

    session, recipe = session_of(options.model, 0), RECIPES[options.family]
    name = session.get_inputs()[0].name

    def infer(frames: list[Any]) -> list[Any]:
        found = []
        for frame in frames:
            outputs = session.run(None, {name: recipe.preprocess(frame.image, options.side)})
            found.append(recipe.decode(outputs, options.side))
        return found

    def over(frames: int) -> dict[str, float]:
        sink = Sink(frames)
        pipeline = pipelines.init_with_custom_logic(
            video_reference=options.clip, on_video_frame=infer, on_prediction=sink
        )
        pipeline.start(use_main_thread=False)
        came = sink.over.wait(WITHIN)
        pipeline.terminate()
        pipeline.join()
        if not came:
            raise SystemExit(f"{sink.done + 1} results within {WITHIN:.0f} s")
        return {"ms": sink.wall / frames * 1e3, "cpu_ms": sink.spent / frames * 1e3, "frames": frames}

    over(5)
    serve(lambda: over(options.frames), version=version("inference"))


if __name__ == "__main__":
    main()
