"""The soak: the daemon at full load with every plugin on, a broker, and a camera that drops every minute.

    python benchmarks/soak.py [--minutes 30] [--json FILE] [--picture FILE] [--page FILE]

Three cameras of 30 pictures a second by HTTP and one of 15 by RTSP ask for more than two cores infer; the one by RTSP
hangs up every minute and is away for five seconds. Of pictures and clips 60 MB are kept, so that old ones go during
the warm-up already, as on a board that has run for long. Every five seconds the kernel is asked what the daemon holds,
and the daemon how old its frames are. Exit status 1 when after the warm-up memory grows by 1 MB an hour or more,
descriptors or threads are not what they were, or frames become older. Stopped early it tells of what it has.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "sources"))

from bench_cameras import grown, read_health
from bench_daemon import Camera, Daemon, Running
from bench_host import Host
from bench_page import promises, rewrite
from bench_places import kept_folder
from bench_process import ContestantError
from bench_rooms import YOLOX, Bench, opened
from bench_rows import Row, slope
from mjpeg_server import MjpegCamera
from rtsp_server import RtspCamera

CLIP = "one-by-one-person-detection.mp4"
PICTURES = 240
STEADY, STEADY_FPS, DROPPING_FPS = 3, 30.0, 15.0
UP, AWAY = 55.0, 5.0
EVERY = 5.0
SLOPE_MB, GROWTH = 1.0, 1.1
WARM_UP_SECONDS, WARM_UP_SHARE = 300.0, 0.3
SAID = kept_folder() / "soak.stderr"
MORE = """max_bytes = 60_000_000
[plugins.snapshot.clip]
memory = 8_000_000
before = 1
after = 1
[plugins.alert]
[[plugins.alert.rule]]
name = "someone"
labels = ["person"]
cooldown = 10
"""


@dataclass(frozen=True)
class Sample:
    """What the daemon held at a moment (seconds since the start), and what it did in the time before. ``whole``: every
    camera was there, and had been for a while. ``stolen``: the share of the processors that the machine's host took
    since the sample before."""

    at: float
    rss_mb: float
    threads: float
    descriptors: float
    age_ms: float | None
    inferred: int
    whole: bool
    stolen: float = 0.0


class Outages:
    """Takes a camera away and brings it back, by the clock. ``spans``: from when to when it was away."""

    def __init__(self, camera: RtspCamera) -> None:
        self._camera = camera
        self._turns = UP
        self._away = False
        self.spans: list[tuple[float, float]] = []

    def tend(self, at: float) -> None:
        """Do what is due, ``at`` seconds after the start."""
        if at < self._turns:
            return
        if self._away:
            self._camera.start()
            self.spans[-1] = (self.spans[-1][0], at)
        else:
            self._camera.stop()
            self.spans.append((at, at))
        self._away = not self._away
        self._turns = at + (AWAY if self._away else UP)

    def settled(self, at: float) -> bool:
        """Whether it is there, and has been for half the time between two outages."""
        return not self._away and (not self.spans or at - self.spans[-1][1] > UP / 2)


class Album(MjpegCamera):
    """An HTTP camera that shows ready-made pictures in turn."""

    def __init__(self, jpegs: Sequence[bytes], fps: float, first: int) -> None:
        super().__init__(fps)
        self._jpegs = jpegs
        self.number = first

    def next_jpeg(self) -> bytes:
        """The next one."""
        self.number += 1
        return self._jpegs[self.number % len(self._jpegs)]


def jpegs(clip: Path) -> tuple[list[bytes], tuple[int, int]]:
    """Pictures of a clip, evenly over it, as JPEG of 4:2:0; their width and height."""
    import cv2

    device = cv2.VideoCapture(str(clip))
    step = max(1, int(device.get(cv2.CAP_PROP_FRAME_COUNT)) // PICTURES)
    found, size, number = [], (0, 0), 0
    while device.grab():
        if number % step == 0:
            _, picture = device.retrieve()
            size = int(picture.shape[1]), int(picture.shape[0])
            found.append(bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()))
        number += 1
    device.release()
    if not found:
        raise ContestantError(f"{clip}: not one picture of it can be read")
    return found, size


@contextlib.contextmanager
def cameras(clip: Path) -> Iterator[tuple[list[Camera], RtspCamera]]:
    """All of them, as the daemon is told of them, and the one that drops."""
    pictures, size = jpegs(clip)
    with contextlib.ExitStack() as ends:
        told = []
        for number in range(STEADY):
            steady = Album(pictures, STEADY_FPS, number * len(pictures) // STEADY)
            steady.start()
            ends.callback(steady.stop)
            told.append(Camera(f"steady{number}", steady.url))
        dropping = RtspCamera(DROPPING_FPS, jpeg=lambda number: pictures[number % len(pictures)], size=size)
        dropping.start()
        ends.callback(dropping.stop)
        yield [*told, Camera("dropping", dropping.url)], dropping


def watch(
    bench: Bench, daemon: Daemon, running: Running, outages: Outages, seconds: float, samples: list[Sample]
) -> None:
    """Until it is over; ``samples`` fills meanwhile, so that it is there when somebody interrupts."""
    began, due, said, host = time.monotonic(), EVERY, 0.0, Host()
    while (at := time.monotonic() - began) < seconds:
        outages.tend(at)
        if at >= due:
            due += EVERY
            running.check()
            samples.append(sample(daemon, running, at, outages.settled(at), host.lap()))
            if at - said >= 60 or len(samples) == 1:
                said = at
                bench.say(told(samples[-1], len(outages.spans)))
        time.sleep(0.1)


def sample(daemon: Daemon, running: Running, at: float, settled: bool, stolen: float) -> Sample:
    """Now."""
    health = read_health(daemon.folder / "state" / "status.json") or {"cameras": {}}
    counted = health["cameras"].values()
    ages = [age for camera in counted if (age := camera.get("frame_age_p95_ms")) is not None]
    memory = running.memory()
    return Sample(
        at=round(at, 1),
        rss_mb=round(memory["rss_mb"], 3),
        threads=memory["threads"],
        descriptors=memory["descriptors"],
        age_ms=round(statistics.fmean(ages), 2) if ages else None,
        inferred=sum(camera["inferred"] for camera in counted),
        whole=settled and all(camera["state"] == "up" for camera in counted),
        stolen=round(stolen, 4),
    )


def told(one: Sample, outages: int) -> str:
    """A line of progress."""
    age = "-" if one.age_ms is None else f"{one.age_ms:.0f} ms"
    return (
        f"{one.at / 60:5.1f} min: {one.rss_mb:.1f} MB, {one.threads:.0f} threads, {one.descriptors:.0f} descriptors, "
        f"age p95 {age}, {one.inferred} inferred, {outages} outages, {one.stolen:.0%} taken by the host"
    )


def verdict(samples: Sequence[Sample]) -> list[Row]:
    """What must hold after the warm-up, which is a part of the time and five minutes at most. Raises ContestantError
    when there is too little to judge."""
    warm = min(WARM_UP_SECONDS, WARM_UP_SHARE * samples[-1].at) if samples else 0.0
    later = [one for one in samples if one.at > warm]
    whole = [one for one in later if one.whole]
    if len(later) < 6 or len(whole) < 3:
        raise ContestantError(f"{len(samples)} samples are too few to say anything; let it run for two minutes or more")
    growth = slope([one.at / 3600 for one in later], [one.rss_mb for one in later])
    ages = [one.age_ms for one in later if one.age_ms is not None]
    minutes = f"{samples[-1].at / 60:.0f} minutes"
    return [
        Row(
            "soak: memory slope",
            f"resident memory's slope after the warm-up, {minutes}",
            growth,
            "MB/h",
            SLOPE_MB,
            kept=False,
        ),
        *(_constant(name, [getattr(one, name) for one in whole]) for name in ("descriptors", "threads")),
        Row("soak: age drift", "frame age p95, last third / first third", grown(ages), "x", GROWTH, kept=False),
    ]


def _constant(name: str, values: Sequence[float]) -> Row:
    """By how much the least of the last third is more than the least of the first, both with every camera there: a
    file that is being written comes and goes, and what leaks stays."""
    third = max(1, len(values) // 3)
    more = min(values[-third:]) - min(values[:third])
    what = f"{name}: the least of the last third over that of the first (from {min(values):.0f} to {max(values):.0f})"
    return Row(f"soak: {name}", what, more, "", 0.0, kept=False)


def beneath(samples: Sequence[Sample]) -> str:
    """What the machine's host took meanwhile."""
    mean, most = statistics.fmean(one.stolen for one in samples), max(one.stolen for one in samples)
    return f"The machine's host took {mean:.1%} of the processors' time for others, at most {most:.0%} in {EVERY:g} s."


def draw(path: Path, samples: Sequence[Sample], away: Sequence[tuple[float, float]], about: str) -> None:
    """Memory, descriptors and threads, age and rate over time; grey: the camera is away."""
    from agent.governor.chart import Curve, Panel
    from agent.governor.chart import draw as draw_panels

    at = [one.at for one in samples]
    ages = [float("nan") if one.age_ms is None else one.age_ms for one in samples]
    rates = [0.0] + [
        max(0.0, (after.inferred - before.inferred) / (after.at - before.at))
        for before, after in itertools.pairwise(samples)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    panels = [
        Panel("resident memory, MB", [Curve("RSS", at, [one.rss_mb for one in samples])], shaded=away),
        Panel(
            "descriptors and threads",
            [
                Curve("descriptors", at, [one.descriptors for one in samples], steps=True),
                Curve("threads", at, [one.threads for one in samples], steps=True),
            ],
            shaded=away,
        ),
        Panel("frame age p95, ms", [Curve("age", at, ages)], shaded=away),
        Panel("inferences a second", [Curve("rate", at, rates)], shaded=away),
        Panel("processor time that the host took, %", [Curve("host", at, [100 * one.stolen for one in samples])]),
    ]
    draw_panels(path, about, panels)


def soak(bench: Bench, minutes: float, samples: list[Sample]) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """The run; the daemon's summary, and when the camera was away. Raises ContestantError."""
    if bench.broker_port is None:
        raise ContestantError("no mosquitto here, and the soak is with MQTT on: apt-get install mosquitto")
    with cameras(bench.clip(CLIP)) as (told_of, dropping):
        daemon = Daemon(bench.folder / "soak", bench.package(YOLOX), told_of, bench.broker_port, more=MORE)
        with daemon.start() as running:
            outages = Outages(dropping)
            try:
                running.wait_for_first_frame()
                with contextlib.suppress(KeyboardInterrupt):  # then it tells of what there is
                    watch(bench, daemon, running, outages, 60 * minutes, samples)
                bench.say("stopping")
                return running.stop(), outages.spans
            except ContestantError:
                SAID.parent.mkdir(parents=True, exist_ok=True)
                SAID.write_text(running.said, encoding="utf-8")
                bench.say(f"what the daemon said stands in {SAID}")
                raise


def main() -> int:
    """Run, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=kept_folder() / "soak.json", help="default %(default)s")
    parser.add_argument("--picture", type=Path, default=kept_folder() / "soak.png", help="default %(default)s")
    parser.add_argument("--page", type=Path, help="put the table into this page (docs/performance.md)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nobody is left behind
    samples: list[Sample] = []
    try:
        with opened(1, "soak-") as bench:
            summary, away = soak(bench, options.minutes, samples)
        rows = verdict(samples)
    except ContestantError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    for row in rows:
        print(row.line())
    print(beneath(samples))
    document = {
        "minutes": options.minutes,
        "rows": [row.document() for row in rows],
        "away": away,
        "summary": summary,
        "samples": [asdict(one) for one in samples],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    about = f"{samples[-1].at / 60:.0f} minutes at full load, plugins on; grey: one camera is away"
    draw(options.picture, samples, away, about)
    if options.page:
        rewrite(options.page, "soak", f"{beneath(samples)}\n\n{promises(rows)}")
    print(f"{options.json}, {options.picture}: written")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
