"""The demo's broker: amqtt on one port of loopback. ``python -m agent.cli.demo_broker PORT``"""

from __future__ import annotations

import asyncio
import sys
from typing import Any


async def serve(port: int) -> None:
    """Listen on 127.0.0.1:``port`` for ever; anybody on this machine may connect."""
    from amqtt.broker import Broker

    config: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(config)
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
