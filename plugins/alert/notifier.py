"""Tells an alert through Apprise (the extra ``notify``), in a process of its own: a hundred services' code, each of
which may hang, leak or crash there without harm. The process lives for one alert."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import PluginError
from plugins.alert.config import AppriseSink
from plugins.alert.message import AlertMessage, sentence

PROGRAM = "from plugins.alert.notify_process import main; main()"
REMEMBERED = 100


class Notifier:
    """One Apprise sink. A call returns when every service of the file has the alert, and raises PluginError otherwise:
    those that have it are left out of the next try."""

    def __init__(self, sink: AppriseSink, picture: Callable[[AlertMessage], Path | None] = lambda alert: None) -> None:
        self._sink = sink
        self._picture = picture if sink.picture else lambda alert: None
        self._have: dict[tuple[str, str], set[str]] = {}

    def __call__(self, alert: AlertMessage) -> None:
        key = alert.alert, alert.state
        have = self._have.setdefault(key, set())
        while len(self._have) > REMEMBERED:
            del self._have[next(iter(self._have))]
        answer = self._ask(self._request(alert, have))
        have.update(map(str, answer.get("sent", ())))
        if error := answer.get("error"):
            raise PluginError(f"apprise: {error}")
        self._have.pop(key, None)

    def _request(self, alert: AlertMessage, have: set[str]) -> dict[str, Any]:
        names = {"node": alert.node, "rule": alert.rule, "state": alert.state}
        title = self._sink.title.format(**names, camera=alert.camera, label=alert.label)
        return {
            "urls_file": self._sink.urls_file,
            "title": title,
            "body": sentence(alert),
            "state": alert.state,
            "have": sorted(have),
            "picture": str(self._picture(alert) or ""),
        }

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        command = [sys.executable, "-I", "-c", PROGRAM]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=self._sink.timeout,
                check=False,
            )
            answer = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            raise PluginError(f"apprise: its process was not done in {self._sink.timeout:g} s and was ended") from None
        except OSError as error:
            raise PluginError(f"apprise: its process cannot be started: {error.strerror}") from None
        except (IndexError, ValueError):
            raise PluginError(f"apprise: its process ended with {done.returncode} and said nothing") from None
        return answer if isinstance(answer, dict) else {"error": "its process said nothing"}
