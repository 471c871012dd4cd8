"""OpenVINO alone on one real input, compiled for latency on all cores; ``--precision`` f32 or bf16."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from rounds import serve, timed
from tutorial_steps import first_input


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if options.precision == "bf16" and "BF16" not in able:
        raise SystemExit("this processor has no bf16")
    wanted = {"INFERENCE_PRECISION_HINT": options.precision, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(options.model, "CPU", wanted).create_infer_request()
    feed = [first_input(options.clip, options.family, options.side)]

    def run() -> None:
        request.infer(feed)

    timed(run, 10)
    serve(lambda: timed(run, options.frames), version=openvino.__version__)


if __name__ == "__main__":
    main()
