"""When a model's limit resets, from what the agent's program says about it. Pure; the words are not trusted.

Understood are Claude Code's own texts ("You've hit your session limit · resets 3:45pm (Europe/Berlin)", "… resets
Oct 3, 2pm (UTC)", "… usage limit reached|1764087300"), the API's ("You will regain access on 2026-12-01 at 00:00 UTC")
and what HTTP says ("retry-after: 30", "try again in 2 minutes").
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

LONGEST_SECONDS = 8 * 24 * 3600.0  # the longest limit is a week's
_SLACK_SECONDS = 30.0  # their clock and ours
_JUST_NOW = timedelta(hours=2)  # some looks of a limit that is told without a time
_EPOCH = re.compile(r"\|\s*(1[0-9]{9})\b")
# What comes before a time: "resets", "reset at", "try again at", "regain access on".
_LIFTED = r"\b(?:resets?|resetting|regain access|try again|available again)[ \t]{1,3}(?:at[ \t]+|on[ \t]+|after[ \t]+)?"
_ZONE = r"(?:\s*\(?(?P<zone>(?:UTC|GMT)\b|(?<=\()[A-Za-z0-9_+\-/]{1,40})\)?)?"
_RESETS = re.compile(
    _LIFTED
    + r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(?P<day>[0-9]{1,2}),?\s+"
    r"(?:(?P<year>20[0-9]{2}),?\s+)?(?:at\s+)?|(?P<weekday>mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+(?:at\s+)?"
    r"|(?P<tomorrow>tomorrow)\s+(?:at\s+)?)?"
    r"(?:(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-9]{2}))?\s*(?P<half>[ap])\.?m\b\.?"
    r"|(?P<hour24>[0-9]{1,2}):(?P<minute24>[0-9]{2})(?::[0-9]{2})?(?!\s*[ap]\.?m\b))" + _ZONE,
    re.IGNORECASE,
)
_DATE = re.compile(
    _LIFTED + r"(?P<date>20[0-9]{2}-[0-9]{2}-[0-9]{2})"
    r"(?:(?:[ \t]+at[ \t]+|[T \t])(?P<time>[0-9]{2}:[0-9]{2})(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?\s?" + _ZONE,
    re.IGNORECASE,
)
_IN = re.compile(
    r"(?:try again|retry|resets?|resetting) (?:in|after) (?P<count>[0-9]{1,6})\s*(?P<unit>s|m|h|d)[a-z]*"
    r"(?:,? (?:and )?(?P<more>[0-9]{1,2})\s*(?P<more_unit>s|m|h)[a-z]*)?",
    re.IGNORECASE,
)
_RETRY_AFTER = re.compile(r"retry-after\W{1,4}(?P<count>[0-9]{1,6})\b", re.IGNORECASE)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def seconds_until_reset(text: str, *, now: datetime, resets_at: float | None = None) -> float | None:
    """Seconds from `now` (aware) until the limit ends; None where nothing says when, or only a time that has passed.

    `resets_at` is the epoch time of the agent's own `rate_limit_event`, which says it best.
    """
    text = text[:4000]
    if resets_at is not None:
        return ahead(resets_at - now.timestamp() + _SLACK_SECONDS)
    if found := _EPOCH.search(text):
        return ahead(float(found[1]) - now.timestamp() + _SLACK_SECONDS)
    if found := _RETRY_AFTER.search(text):
        return ahead(float(found["count"]))
    if found := _IN.search(text):
        more = float(found["more"]) * _UNIT_SECONDS[found["more_unit"].lower()] if found["more"] else 0.0
        return ahead(float(found["count"]) * _UNIT_SECONDS[found["unit"].lower()] + more)
    if found := _DATE.search(text):
        at = _date(found)
        return None if at is None else ahead((at - now).total_seconds() + _SLACK_SECONDS)
    if found := _RESETS.search(text):
        at = _clock_time(found, now)
        return None if at is None else ahead((at - now).total_seconds() + _SLACK_SECONDS)
    return None


def _date(found: re.Match[str]) -> datetime | None:
    try:
        at = datetime.fromisoformat(f"{found['date']}T{found['time'] or '00:00'}")
    except ValueError:
        return None
    return at.replace(tzinfo=_zone(found["zone"]))


def _clock_time(found: re.Match[str], now: datetime) -> datetime | None:
    """The next time that is so called; one that has just passed is meant as it stands, and is no wait of a day."""
    local = now.astimezone(_zone(found["zone"]))
    try:
        at = _at_that_time(found, local)
        if at is None:
            return None
        if found["tomorrow"]:
            return at + timedelta(days=1)
        if found["weekday"]:
            ahead_days = (_WEEKDAYS.index(found["weekday"].lower()) - local.weekday()) % 7
            day = at + timedelta(days=ahead_days)
            return day if day > local - _JUST_NOW else day + timedelta(days=7)
        if found["month"] is None:
            days = (at + timedelta(days=number) for number in (-1, 0, 1))
            return next(day for day in days if day > local - _JUST_NOW)
        month = _MONTHS.index(found["month"].lower()) + 1
        at = at.replace(year=int(found["year"] or local.year), month=month, day=int(found["day"]))
        if found["year"] is None and at < local - timedelta(days=180):
            at = at.replace(year=local.year + 1)
    except ValueError:  # the 31st of June
        return None
    return at


def _at_that_time(found: re.Match[str], local: datetime) -> datetime | None:
    """That time of the day it is; None for what is none. Raises `ValueError` likewise."""
    if found["hour24"]:
        hour, minute = int(found["hour24"]), int(found["minute24"])
    elif 1 <= int(found["hour"]) <= 12:
        hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "p" else 0)
        minute = int(found["minute"] or 0)
    else:
        return None
    return local.replace(hour=hour, minute=minute, second=0, microsecond=0)


def _zone(name: str | None) -> tzinfo:
    """The named zone; the agent's own, which is UTC in every sandbox (`command`), where it names none."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return UTC


def ahead(seconds: float) -> float | None:
    """A wait not longer than any limit lasts; None for one that is over, which tells nothing about the next."""
    return min(max(seconds, 1.0), LONGEST_SECONDS) if seconds > 0 else None
