"""The bundled detector: ``draw`` and ``train`` make it, ``evaluate`` measures it where it has never been.

    python benchmarks/desk_detector.py draw --scenes 80000 --seconds 560 --out drawn    (every core)
    python benchmarks/desk_detector.py train --drawn drawn --seconds 480                (PyTorch; a GPU, or patience)
    python benchmarks/desk_detector.py evaluate --scenes 400 --record

Training draws from the families of TRAINING, evaluation from those of EVALUATION (agent/sources/desk/domains.py); the
two share none. Beside the model stands a classical baseline, tuned on the training domain as the model is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

PACKAGE = HERE.parent / "agent" / "models" / "desk"
MOST_BYTES = 1_000_000
MANIFEST = """name = "desk"
family = "yolov8"
labels = [{labels}]

[input]
size = [{width}, {height}]
colour = "rgb"
mean = [0.0, 0.0, 0.0]
scale = [0.00392156862745098, 0.00392156862745098, 0.00392156862745098]
resize = "letterbox"
pad = {pad}

[[variant]]
precision = "fp32"
file = "desk.onnx"
sha256 = "{sha256}"
"""
ACCURACY = """[variant.accuracy]
data = "{data}"
map50 = {map50:.4f}
map50_95 = {map50_95:.4f}
"""


def write_manifest(folder: Path, accuracy: str = "") -> None:
    """model.toml for the desk.onnx that stands in the folder."""
    from desk_scenes import INPUT, PAD

    from agent.sources.desk.things import LABELS

    digest = hashlib.sha256((folder / "desk.onnx").read_bytes()).hexdigest()
    labels = ", ".join(f'"{label}"' for label in LABELS)
    text = MANIFEST.format(labels=labels, width=INPUT[0], height=INPUT[1], pad=PAD, sha256=digest)
    (folder / "model.toml").write_text(text + accuracy, encoding="utf-8")


def draw(args: argparse.Namespace) -> int:
    """Scenes of TRAINING into a folder, for train."""
    from desk_scenes import drawn_to

    from agent.sources.desk.domains import TRAINING

    count, seconds = drawn_to(args.out, args.seed, args.scenes, args.seconds, TRAINING, args.workers)
    print(f"{args.out}: {count} scenes in {seconds:.0f} s")
    return 0


def train(args: argparse.Namespace) -> int:
    """Take what is drawn, or draw meanwhile; fit, export, write the package."""
    import desk_training
    from desk_scenes import Drawing, Drawn

    from agent.sources.desk.domains import TRAINING

    drawing = Drawn(args.drawn) if args.drawn else Drawing(args.seed, args.scenes, TRAINING, args.workers)
    net = desk_training.fit(drawing, args.seconds, args.batch, args.rate, args.seed, args.resume, args.pasted)
    drawing.close()
    args.out.mkdir(parents=True, exist_ok=True)
    desk_training.export(net, args.out / "desk.onnx")
    size = (args.out / "desk.onnx").stat().st_size
    write_manifest(args.out)
    print(f"{args.out / 'desk.onnx'}: {size} bytes")
    return 0 if size <= MOST_BYTES else 1


def evaluate(args: argparse.Namespace) -> int:
    """Measure, tell, and note the figures in model.toml where asked to."""
    from desk_evaluation import evaluate as measured
    from desk_evaluation import mean

    from agent.sources.desk import domains

    domain = getattr(domains, args.domain.upper())
    by_seed = measured(args.package, args.scenes, args.seed, args.tuning, domain, args.workers)
    scores = {name: mean([one[name] for one in by_seed]) for name in by_seed[0]}
    if args.record:
        seeds = ", ".join(map(str, args.seed))
        data = f"synthetic desk, {args.domain} families, mean of seeds {seeds}, {args.scenes} pictures each"
        write_manifest(args.package, ACCURACY.format(data=data, **scores["model"]._asdict()))
    if args.json:
        told = {name: score._asdict() for name, score in scores.items()}
        seeds_told = {seed: one["model"].map50 for seed, one in zip(args.seed, by_seed, strict=True)}
        print(json.dumps({"scenes": args.scenes, "domain": args.domain, "map50_by_seed": seeds_told} | told))
    else:
        _print_table(scores)
        for name in scores:
            print(f"{name}, mAP50 by seed: " + ", ".join(f"{one[name].map50:.3f}" for one in by_seed))
    return 0


def _print_table(scores: dict[str, Any]) -> None:
    labels = list(scores["model"].by_class)
    print(f"{'':10}{'mAP50':>8}{'mAP50-95':>10}" + "".join(f"{label:>8}" for label in labels))
    for name, score in scores.items():
        classes = "".join(f"{score.by_class[label]:8.3f}" for label in labels)
        print(f"{name:10}{score.map50:8.3f}{score.map50_95:10.3f}{classes}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = top.add_subparsers(dest="command", required=True)
    zero = commands.add_parser("draw", help="draw training scenes into a folder, with every core")
    zero.add_argument("--scenes", type=int, default=80000, help="how many stills at most (default %(default)s)")
    zero.add_argument("--seconds", type=float, default=560, help="how long to draw (default %(default)s)")
    zero.add_argument("--seed", type=int, default=11, help="of the scenes (default %(default)s)")
    zero.add_argument("--workers", type=int, help="processes that draw (default: one a core)")
    zero.add_argument("--out", type=Path, required=True, help="folder to draw into: 250 kB a scene")
    zero.set_defaults(run=draw)
    one = commands.add_parser("train", help="draw scenes, train, write the model package (needs PyTorch, onnx)")
    one.add_argument("--scenes", type=int, default=60000, help="stills drawn meanwhile at most (default %(default)s)")
    one.add_argument("--drawn", type=Path, help="train on what 'draw' left in this folder, drawing nothing")
    one.add_argument("--seconds", type=float, default=360, help="how long to train (default %(default)s)")
    one.add_argument("--batch", type=int, default=256, help="pictures a step (default %(default)s)")
    one.add_argument("--rate", type=float, default=3e-3, help="highest learning rate (default %(default)s)")
    one.add_argument("--pasted", type=int, default=2, help="cut-outs laid across a picture (default %(default)s)")
    one.add_argument("--seed", type=int, default=11, help="of the scenes and the weights (default %(default)s)")
    one.add_argument("--workers", type=int, help="processes that draw (default: one a core)")
    one.add_argument("--resume", type=Path, help="go on from this desk.onnx instead of from nothing")
    one.add_argument("--out", type=Path, default=PACKAGE, help="folder of the package (default: the bundled one)")
    one.set_defaults(run=train)
    two = commands.add_parser("evaluate", help="mAP of the model and of the classical baseline on families unseen")
    two.add_argument("--scenes", type=int, default=400, help="how many stills (default %(default)s)")
    two.add_argument(
        "--seed", type=int, nargs="+", default=[2027], help="of the scenes; of several the mean (default 2027)"
    )
    two.add_argument(
        "--tuning", type=int, default=150, help="training scenes that tune the baseline (default %(default)s)"
    )
    two.add_argument(
        "--domain", choices=["evaluation", "first_evaluation", "training"], default="evaluation", help="which families"
    )
    two.add_argument("--workers", type=int, help="processes, one a seed at most (default: one a core)")
    two.add_argument("--package", type=Path, default=PACKAGE, help="folder of the model (default: the bundled one)")
    two.add_argument("--record", action="store_true", help="write the figures into the package's model.toml")
    two.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    two.set_defaults(run=evaluate)
    return top


def main() -> int:
    """Run a subcommand."""
    args: Any = parser().parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
