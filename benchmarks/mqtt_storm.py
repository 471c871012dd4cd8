"""The storm: a broker and a network that fail in every way while the agent publishes; paho alone beside it.

    python benchmarks/mqtt_storm.py                            20 rounds, 10 minutes
    python benchmarks/mqtt_storm.py --rounds 3 --seconds 30    a short one

Each round has one fault, in random order by --seed: the broker is stopped or killed and started again, or frozen
(SIGSTOP); the agent is killed and started again, also while there is no broker; the network between them loses packets
or is cut without a word. The agent is the real host, event log and MQTT plugin. What must arrive is what stands in its
event log at the end, read from the file; for paho, what its ``publish`` took. Exit 1 when an event of the log is lost,
comes out of order within its camera (among the late ones, among the live ones, and within each occurrence), or when 1 %
or more come twice.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import msgspec
from storm_broker import Broker
from storm_network import BROKER, Network, NoNetwork, enter, obstacle, run_at
from storm_tally import Key, Tally, tally
from storm_watch import Arrival, Seen, Watch

from agent.host.log import EVENTS, EventLog

PORT = 18_883
HERE = Path(__file__).resolve().parent
AT_THE_BROKER = ("stop the broker", "kill -9 the broker", "freeze the broker")
AT_THE_AGENT = ("kill -9 the agent",)
AT_BOTH = ("broker off, agent killed",)
AT_THE_CABLE = ("lose packets", "cut the cable")
SOURCES = ("edgewarden", "paho")
MOST_DUPLICATES = 0.01
PATIENCE = 60.0


@dataclass
class Round:
    """One fault. ``began`` and ``healed``: monotonic; ``wall``: UNIX seconds at its start and end; ``back``: seconds
    from the healing to the first event that was made after it."""

    number: int
    fault: str
    lead: float
    lasts: float
    percent: int = 0
    wall: tuple[float, float] = (0.0, 0.0)
    began: float = 0.0
    healed: float = 0.0
    healed_wall: float = 0.0
    back: dict[str, float | None] = field(default_factory=dict)
    numbers: dict[str, dict[str, int]] = field(default_factory=dict)


def plan(rounds: int, seconds: float, faults: Sequence[str], seed: int) -> list[Round]:
    """Every fault as often as every other, shuffled; lengths in proportion to the time a round has."""
    dice = random.Random(seed)
    each = seconds / rounds
    kinds = [faults[number % len(faults)] for number in range(rounds)]
    dice.shuffle(kinds)
    return [
        Round(number, kind, dice.uniform(0.05, 0.2) * each, dice.uniform(0.1, 0.4) * each, dice.randint(15, 40))
        for number, kind in enumerate(kinds, 1)
    ]


class Publishers:
    """The agent and paho alone, each a process at the far end of the cable."""

    def __init__(self, folder: Path, prefix: Sequence[str], address: str, port: int, rate: float) -> None:
        self.state_dir = folder / "agent"
        self.journal = folder / "paho.journal"
        self._folder = folder
        self._prefix = prefix
        self._words = (address, str(port))
        self._rate = f"{rate:g}"
        self.start()

    def start(self) -> None:
        """Both, as after a reboot."""
        python = sys.executable
        ours = [python, str(HERE / "storm_agent.py"), *self._words, str(self.state_dir), self._rate]
        theirs = [python, str(HERE / "storm_paho.py"), *self._words, str(self.journal), self._rate]
        self._processes = [
            run_at(self._prefix, ours, self._folder / "agent.log"),
            run_at(self._prefix, theirs, self._folder / "paho.log"),
        ]

    def kill(self) -> None:
        """SIGKILL both."""
        for process in self._processes:
            process.kill()
            process.wait()

    def finish(self, patience: float) -> None:
        """No more events; wait until what is left was delivered."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(patience)
            except TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def running(self) -> bool:
        """Whether neither has ended by itself."""
        return all(process.poll() is None for process in self._processes)


class Storm:
    """Broker, cable, publishers and subscriber; and what is done to them."""

    def __init__(self, folder: Path, network: Network | NoNetwork, port: int, rate: float) -> None:
        cable = isinstance(network, Network)
        self._network = network
        self.broker = Broker(folder / "broker", BROKER if cable else "127.0.0.1", port)
        self.broker.start()
        self.watch = Watch(port)
        self.broker.save()
        self.publishers = Publishers(folder, network.prefix(), BROKER if cable else "127.0.0.1", port, rate)
        if not self._wait(lambda: all(self.watch.arrivals.values()), PATIENCE):
            raise RuntimeError(f"not both publishers arrived within {PATIENCE:g} s; see --keep FOLDER")

    def run(self, each: Round, seconds: float) -> None:
        """One round; returns at its end, and not before both publishers are back, or are given up."""
        each.wall = (time.time(), 0.0)
        ends = time.monotonic() + seconds
        time.sleep(each.lead)
        each.began = time.monotonic()
        self._hurt(each)
        time.sleep(each.lasts)
        if each.fault in AT_BOTH:
            self.publishers.kill()
            self.publishers.start()
            time.sleep(each.lasts / 2)
        self._heal(each)
        each.healed, each.healed_wall = time.monotonic(), time.time()
        self._wait(lambda: all(self._back(each, source) is not None for source in SOURCES), PATIENCE)
        each.back = {source: self._back(each, source) for source in SOURCES}
        time.sleep(max(0.0, ends - time.monotonic()))
        each.wall = (each.wall[0], time.time())
        if not self.publishers.running:
            raise RuntimeError("a publisher ended by itself; see its log")

    def finish(self) -> None:
        """Let everything arrive, stop everything."""
        self.publishers.finish(PATIENCE + 30)
        self._wait_for_silence()
        self.watch.close()
        self.broker.stop()

    def abort(self) -> None:
        """End every process, whatever state it is in."""
        self.publishers.kill()
        self.broker.abort()

    def _hurt(self, each: Round) -> None:
        if each.fault in ("stop the broker", *AT_BOTH):
            self.broker.stop()
        elif each.fault == "kill -9 the broker":
            self.watch.hold()
            time.sleep(0.3)
            self.broker.kill()
        elif each.fault == "freeze the broker":
            self.broker.freeze()
        elif each.fault == "kill -9 the agent":
            self.publishers.kill()
        else:
            self._network.lose(100 if each.fault == "cut the cable" else each.percent)

    def _heal(self, each: Round) -> None:
        if each.fault in ("stop the broker", "kill -9 the broker", *AT_BOTH):
            self.broker.start()
        elif each.fault == "freeze the broker":
            self.broker.thaw()
        elif each.fault == "kill -9 the agent":
            self.publishers.start()
        else:
            self._network.heal()

    def _back(self, each: Round, source: str) -> float | None:
        for arrival in self.watch.arrivals[source][::-1]:
            if arrival.at < each.healed:
                return None
            if arrival.seen.captured_at >= each.healed_wall:
                return self._first_after(each, source)
        return None

    def _first_after(self, each: Round, source: str) -> float:
        fresh = [a.at for a in self.watch.arrivals[source] if a.seen.captured_at >= each.healed_wall]
        return min(fresh) - each.healed

    def _wait(self, condition: Callable[[], bool], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not (met := condition()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return met

    def _wait_for_silence(self) -> None:
        count = -1
        while count != (now := sum(map(len, self.watch.arrivals.values()))):
            count = now
            time.sleep(1.0)


def committed(state_dir: Path) -> list[Seen]:
    """The events of the agent's log, in order, whatever became of them."""
    decoder = msgspec.json.Decoder(Seen)
    log = EventLog(state_dir / "events.db", max_bytes=1 << 40)
    rows, position = [], 0
    while batch := log.read(EVENTS, position, 1000):
        rows += [decoder.decode(row.payload) for row in batch]
        position = batch[-1].seq
    log.close()
    return rows


def taken(journal: Path) -> list[Seen]:
    """What paho's ``publish`` took."""
    lines = journal.read_text("utf-8").splitlines()
    return [Seen(camera, key, seq, at) for camera, key, seq, at in map(json.loads, lines)]


def by_camera(promised: Sequence[Seen]) -> dict[str, list[Key]]:
    """Keys in order."""
    found: dict[str, list[Key]] = {}
    for seen in promised:
        found.setdefault(seen.camera, []).append((seen.id, seen.seq))
    return found


def numbers_of(each: Round, promised: Sequence[Seen], arrivals: Sequence[Arrival]) -> dict[str, int]:
    """The events made during one round."""
    mine = [seen for seen in promised if each.wall[0] <= seen.captured_at < each.wall[1]]
    came = [arrival for arrival in arrivals if each.wall[0] <= arrival.seen.captured_at < each.wall[1]]
    total = tally(by_camera(mine), came)
    return {
        "promised": total.promised,
        "lost": len(total.lost),
        "twice": total.duplicates,
        "late": len({arrival.key for arrival in came if arrival.seen.late}),
    }


def table(rounds: Sequence[Round], totals: dict[str, Tally]) -> str:
    """Rounds below one another, the agent beside paho."""
    heads = ("", "fault", "lasts", "committed", "lost", "twice", "late", "back", "accepted", "lost", "twice", "back")
    lines = [f"{'':<36} |{'edgewarden':^41} |{'paho alone':^32}", _row(heads), *map(_round_row, rounds)]
    for source, total in totals.items():
        lines.append(
            f"{source}: {total.promised:,} promised, {len(total.lost):,} lost, {total.duplicates} twice "
            f"({100 * total.duplicate_share:.2f} %), {total.disorder} out of order within their camera"
        )
    return "\n".join(lines)


def _round_row(each: Round) -> str:
    ours, theirs = (each.numbers[source] for source in SOURCES)
    return _row(
        (
            str(each.number),
            f"{each.fault} {each.percent} %" if each.fault == "lose packets" else each.fault,
            f"{each.lasts:.1f} s",
            *(f"{ours[what]:,}" for what in ("promised", "lost", "twice", "late")),
            _seconds(each.back["edgewarden"]),
            *(f"{theirs[what]:,}" for what in ("promised", "lost", "twice")),
            _seconds(each.back["paho"]),
        )
    )


def _row(cells: Sequence[str]) -> str:
    number, fault, lasts, *rest = cells
    ours = "".join(f"{cell:>{width}}" for cell, width in zip(rest[:5], (10, 7, 7, 8, 9), strict=True))
    theirs = "".join(f"{cell:>{width}}" for cell, width in zip(rest[5:], (9, 7, 7, 9), strict=True))
    return f"{number:>2}  {fault:<24}{lasts:>8} |{ours} |{theirs}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="faults (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=600.0, help="in all (default %(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second (default %(default)s)")
    parser.add_argument("--seed", type=int, default=4, help="of the order and lengths (default %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="of the broker (default %(default)s)")
    parser.add_argument(
        "--faults", default="", help="only these, divided by semicolons (default: all that can be done here)"
    )
    parser.add_argument("--no-network", action="store_true", help="on loopback, without the faults of the cable")
    parser.add_argument("--keep", type=Path, help="keep logs and databases in this folder")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return parser.parse_args()


def faults(wanted: str, cable: bool) -> tuple[str, ...]:
    """Those that were asked for; SystemExit when one cannot be done."""
    possible = (*AT_THE_BROKER, *AT_THE_AGENT, *AT_BOTH, *(AT_THE_CABLE if cable else ()))
    chosen = tuple(name.strip() for name in wanted.split(";")) if wanted else possible
    if unknown := [name for name in chosen if name not in possible]:
        sys.exit(f"--faults: {', '.join(unknown)} cannot be done here; there are: {'; '.join(possible)}")
    return chosen


def storm(chosen: argparse.Namespace, network: Network | NoNetwork, folder: Path) -> dict[str, Any]:
    """All of it: rounds and totals."""
    rounds = plan(chosen.rounds, chosen.seconds, faults(chosen.faults, isinstance(network, Network)), chosen.seed)
    running = Storm(folder, network, chosen.port, chosen.rate)
    try:
        for each in rounds:
            print(
                f"round {each.number} of {len(rounds)}: {each.fault}, {each.lasts:.1f} s", file=sys.stderr, flush=True
            )
            running.run(each, chosen.seconds / chosen.rounds)
        running.finish()
    finally:
        running.abort()
    promised = {"edgewarden": committed(running.publishers.state_dir), "paho": taken(running.publishers.journal)}
    for each in rounds:
        each.numbers = {s: numbers_of(each, promised[s], running.watch.arrivals[s]) for s in SOURCES}
    totals = {s: tally(by_camera(promised[s]), running.watch.arrivals[s]) for s in SOURCES}
    return {"rounds": rounds, "totals": totals, "faults": running.watch.faults}


def main() -> None:
    """See the module."""
    chosen = options()
    hindrance = "" if chosen.no_network else obstacle()
    if hindrance:
        print(f"no network of our own here ({hindrance}): without the faults of the cable", file=sys.stderr)
    cable = not (chosen.no_network or hindrance)
    if cable:
        enter()
    with tempfile.TemporaryDirectory() as temporary, Network() if cable else NoNetwork() as network:
        result = storm(chosen, network, chosen.keep or Path(temporary))
    ours: Tally = result["totals"]["edgewarden"]
    print(msgspec.json.encode(result).decode() if chosen.json else table(result["rounds"], result["totals"]))
    for fault in result["faults"]:
        print(f"the measurement itself failed: {fault}", file=sys.stderr)
    failed = ours.lost or ours.unpromised or ours.disorder or ours.duplicate_share >= MOST_DUPLICATES
    sys.exit(1 if failed or result["faults"] else 0)


if __name__ == "__main__":
    main()
