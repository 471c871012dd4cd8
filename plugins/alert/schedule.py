"""Hours and weekdays of a rule. Pure: the local time goes in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
DAY = 24 * 60


def parse_hours(span: str) -> tuple[int, int]:
    """``22:00-06:00`` as minutes since midnight; the end is not in it and may lie before the begin, on the next day.

    Raises ValueError for what is no span, and for an empty one.
    """
    match = SPAN.fullmatch(span)
    begin_hour, begin_minute, end_hour, end_minute = map(int, match.groups()) if match else (99, 0, 0, 0)
    begin, end = begin_hour * 60 + begin_minute, end_hour * 60 + end_minute
    if begin >= DAY or end > DAY or begin_minute > 59 or end_minute > 59 or begin == end:
        raise ValueError(f"hours: {span!r} is no span of a day; write '22:00-06:00', the whole day is '00:00-24:00'")
    return begin, end


def on_duty(hours: Sequence[str], weekdays: Sequence[Weekday], local: datetime) -> bool:
    """Whether a rule with these spans and days holds at a local time. Empty ones mean always.

    What goes over midnight belongs to the day on which it began.
    """
    minute = local.hour * 60 + local.minute
    today, yesterday = (WEEKDAYS[(local - timedelta(days=back)).weekday()] for back in (0, 1))
    for begin, end in [parse_hours(span) for span in hours] or [(0, DAY)]:
        over_midnight = end <= begin
        if (begin <= minute < end or (over_midnight and minute >= begin)) and (not weekdays or today in weekdays):
            return True
        if over_midnight and minute < end and (not weekdays or yesterday in weekdays):
            return True
    return False
