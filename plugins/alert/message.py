"""An alert as it is told."""

from __future__ import annotations

from typing import Literal

import msgspec

Fate = Literal["pending", "delivered", "mixed", "dropped"]
"""What became of an alert: under way somewhere, else delivered to all, to some or to no sink."""
State = Literal["raised", "updated", "escalated", "resolved", "suppressed", "test"]


class AlertMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message about an alert. ``alert`` names the alert, and with ``state`` tells doubles.

    ``id`` and ``seq`` are those of the event that raised it, ``track`` that event's; ``count`` events are in it by now,
    ``events`` names them (the first hundred). ``escalated`` comes once, when nobody is gone after so long; ``updated``
    once, when others joined. ``suppressed``: so many alerts of the rule were not told between ``started_at`` and ``at``
    (state ``suppressed``). ``at``: when this message was made. ``late``: it, or what it is about, had to wait.
    """

    v: int = 1
    node: str
    rule: str
    state: State
    alert: str = ""
    id: str
    seq: int
    camera: str
    zone: str = ""
    track: int = 0
    label: str
    score: float
    count: int = 1
    events: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    started_at: float
    raised_at: float
    escalated_at: float | None = None
    resolved_at: float | None = None
    at: float = 0.0
    late: bool = False
    clock_synced: bool = True
    suppressed: int = 0


def sentence(alert: AlertMessage) -> str:
    """The alert as a line of a log or a notification."""
    if alert.state == "suppressed":
        return f"alert {alert.rule}: {alert.suppressed} more not told"
    late = ", late" if alert.late else ""
    more = f" and {alert.count - 1} more" if alert.count > 1 else ""
    place = f"{alert.camera}, zone {alert.zone}" if alert.zone else alert.camera
    what = f"{alert.label}{more} at {place}, score {alert.score:.2f}{late} (event {alert.id})"
    return f"alert {alert.rule} {alert.state}: {what}"
