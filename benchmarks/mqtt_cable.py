"""How soon subscribers see that the agent's cable is cut, and that it is back. No FIN: packets vanish.

    python benchmarks/mqtt_cable.py --rounds 3

Prints seconds from the cut to ``offline`` and from the mending to ``online`` and to the first event made after it.
Needs a network namespace of its own (root or user namespaces, iproute2, nftables).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mqtt_storm import PORT, Publishers
from storm_broker import Broker
from storm_network import BROKER, Network, enter, obstacle
from storm_watch import Watch

PATIENCE = 60.0
RATE = 20.0


def seconds_until(condition: Callable[[], bool]) -> float:
    """How long it took; infinity after a minute."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE:
            return float("inf")
        time.sleep(0.01)
    return time.monotonic() - began


def one(network: Network, watch: Watch, dark: float) -> tuple[float, float, float]:
    """Cut, wait for ``offline`` and ``dark`` seconds more, mend."""
    network.lose(100)
    offline = seconds_until(lambda: watch.states[-1][1] == "offline")
    time.sleep(dark)
    network.heal()
    mended = time.time()
    online = seconds_until(lambda: watch.states[-1][1] == "online")
    arrivals = watch.arrivals["edgewarden"]
    event = online + seconds_until(lambda: arrivals[-1].seen.captured_at >= mended)
    return offline, online, event


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="cuts (default %(default)s)")
    parser.add_argument("--dark", type=float, default=5.0, help="seconds cut after offline (default %(default)s)")
    chosen = parser.parse_args()
    if hindrance := obstacle():
        sys.exit(f"no network of our own here: {hindrance}")
    enter()
    with tempfile.TemporaryDirectory() as temporary, Network() as network:
        folder = Path(temporary)
        broker = Broker(folder / "broker", BROKER, PORT)
        broker.start()
        watch = Watch(PORT)
        publishers = Publishers(folder, network.prefix(), BROKER, PORT, RATE)
        try:
            seconds_until(lambda: bool(watch.arrivals["edgewarden"]) and bool(watch.states))
            for number in range(1, chosen.rounds + 1):
                time.sleep(2.0)
                offline, online, event = one(network, watch, chosen.dark)
                print(f"cut {number}: offline after {offline:.1f} s; mended: online after {online:.1f} s, ", end="")
                print(f"a new event after {event:.1f} s", flush=True)
        finally:
            publishers.kill()
            watch.close()
            broker.abort()


if __name__ == "__main__":
    main()
