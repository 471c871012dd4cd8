"""amqtt as a broker of a test's own: it speaks 3.1.1 alone, and its plugins refuse what mosquitto lets pass."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from broker import free_port


@contextlib.contextmanager
def amqtt_broker(plugins: Mapping[str, Any] | None = None) -> Iterator[int]:
    """Its port on loopback. On a loop and a thread of its own, open to anybody. ``plugins``: further ones."""
    amqtt = pytest.importorskip("amqtt.broker")
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    port, loop = free_port(), asyncio.new_event_loop()
    anybody = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
    broker = amqtt.Broker({"listeners": listeners, "plugins": anybody | dict(plugins or {})}, loop=loop)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(broker.start(), loop).result(10)
    yield port
    asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
