"""The process in which Apprise runs: reads one request from stdin, tells every service, answers on stdout, ends.

Nothing of the services' URLs, which hold secrets, ever stands in an answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

KINDS = {"raised": "warning", "escalated": "failure", "resolved": "success"}


def urls_of(text: str) -> list[tuple[int, str]]:
    """The Apprise URLs of a file with their line numbers; ``#`` begins a comment line."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def fingerprint(url: str) -> str:
    """Names a service without telling its URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def tell(request: dict[str, Any]) -> dict[str, Any]:
    """``sent``: fingerprints of the services that have it; ``error``: what is wrong with the others, in one line."""
    try:
        import apprise
    except ImportError:
        return {"error": "not installed; pip install 'edgewarden[notify]'"}
    path = Path(request["urls_file"])
    try:
        urls = urls_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return {"error": f"urls_file {path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"}
    if not urls:
        return {"error": f"urls_file {path} names no service; write one Apprise URL a line"}
    sent, wrong = [], []
    for number, url in urls:
        if fingerprint(url) in request["have"]:
            continue
        service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if service is None:
            wrong.append(f"line {number} of {path} is no Apprise URL")
        elif _notify(service, request):
            sent.append(fingerprint(url))
        else:
            wrong.append(f"{service.service_name} (line {number} of {path}) did not take it")
    return {"sent": sent, "error": "; ".join(wrong)}


def _notify(service: Any, request: dict[str, Any]) -> bool:
    kind = KINDS.get(request["state"], "info")
    try:
        words = {"body": request["body"], "title": request["title"], "notify_type": kind}
        if request.get("picture") and getattr(service, "attachment_support", False):
            from apprise import AppriseAttachment

            words["attach"] = AppriseAttachment(request["picture"])
        return bool(service.notify(**words))
    except Exception:  # noqa: BLE001 - any service's own code; what it says may hold its secrets
        return False


def main() -> None:
    """One request, one answer."""
    logging.disable(logging.CRITICAL)  # Apprise logs URLs
    answer = tell(json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
