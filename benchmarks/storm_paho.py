"""paho alone, as its documentation shows it: publish with QoS 1 and let its thread reconnect. What the storm compares.

    python benchmarks/storm_paho.py HOST PORT JOURNAL RATE

Writes a line to the journal for each message that ``publish`` took: sent, or queued because there was no connection.
Runs until its input ends, then waits for its acknowledgements (60 s at most).
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

CAMERAS = tuple(f"cam{number}" for number in range(4))
TAKEN = (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN)
DRAIN = 60.0
PADDING = "x" * 400


def wait_for_the_end_of_input(ended: threading.Event) -> None:
    """Set ``ended`` once nobody writes to us any more."""
    sys.stdin.read()
    ended.set()


def main() -> None:
    """See the module."""
    address, port, journal, rate = sys.argv[1:5]
    ended = threading.Event()
    threading.Thread(target=wait_for_the_end_of_input, args=(ended,), daemon=True).start()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho-alone")
    acknowledged: list[int] = []
    client.on_publish = lambda _client, _data, mid, *_: acknowledged.append(mid)
    client.connect_async(address, int(port))
    client.loop_start()
    began, number, accepted = time.monotonic(), 0, 0
    with open(journal, "a", encoding="utf-8", buffering=1) as sink:
        while not ended.wait(max(0.0, began + number / float(rate) - time.monotonic())):
            camera, key = CAMERAS[number % len(CAMERAS)], str(uuid.uuid4())
            message = {"id": key, "seq": 0, "camera": camera, "captured_at": time.time(), "padding": PADDING}
            info = client.publish(f"paho/storm/camera/{camera}/events", json.dumps(message), qos=1)
            if info.rc in TAKEN:
                sink.write(json.dumps([camera, key, 0, message["captured_at"]]) + "\n")
                accepted += 1
            number += 1
    deadline = time.monotonic() + DRAIN
    while time.monotonic() < deadline and len(acknowledged) < accepted:
        time.sleep(0.05)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
