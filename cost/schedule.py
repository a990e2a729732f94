"""The part of the week in which a stop and a start schedule leave something running."""

import re
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Final

DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MINUTES_A_DAY: Final = 24 * 60
MINUTES_A_WEEK: Final = 7 * MINUTES_A_DAY
PART: Final = re.compile(r"(?:\*|(?P<first>\d+)(?:-(?P<last>\d+))?)(?:/(?P<step>[1-9]\d*))?")


def running_share(stop: str, start: str) -> Decimal:
    """Share of the week that begins with a start and ends with a stop, both cron expressions.

    Raises:
        ValueError: an expression is not one that says the same every week.
    """
    events = sorted([(at, False) for at in _minutes(stop)] + [(at, True) for at in _minutes(start)])
    first, running_from_first = events[0]
    spans = pairwise([*events, (first + MINUTES_A_WEEK, running_from_first)])
    running = sum(until - since for (since, is_start), (until, _) in spans if is_start)
    return Decimal(running) / MINUTES_A_WEEK


def _minutes(expression: str) -> Iterable[int]:
    """When in the week, in minutes from Sunday 0:00."""
    fields = expression.split()
    if len(fields) != 5 or fields[2:4] != ["*", "*"]:  # noqa: PLR2004 - cron has five
        raise ValueError(f'"{expression}" is not five cron fields with * as day of the month and month')
    minutes, hours, weekdays = (
        _values(field, highest) for field, highest in ((fields[0], 59), (fields[1], 23), (_numbered(fields[4]), 7))
    )
    return {day % 7 * MINUTES_A_DAY + hour * 60 + minute for day in weekdays for hour in hours for minute in minutes}


def _numbered(weekdays: str) -> str:
    return re.sub("|".join(DAYS), lambda match: str(DAYS.index(match[0])), weekdays.upper())


def _values(field: str, highest: int) -> set[int]:
    """What a cron field stands for: numbers, ranges, steps and lists of them."""
    values: set[int] = set()
    for text in field.split(","):
        part = PART.fullmatch(text)
        if part is None:
            raise ValueError(f'"{text}" is no part of a cron field')
        first = int(part["first"] or 0)
        last = int(part["last"] or (first if part["first"] and not part["step"] else highest))
        if not first <= last <= highest:
            raise ValueError(f'"{text}" is not between 0 and {highest}')
        values |= set(range(first, last + 1, int(part["step"] or 1)))
    return values
