"""Times as Hubble's flags and formats know them: durations, dates and Go's layout names. All in UTC.

Printing works on integers of nanoseconds since the epoch, since a float loses what RFC3339Nano shows.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

NS: Final = 1_000_000_000

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UNITS: Final = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": NS, "m": 60 * NS, "h": 3600 * NS}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_ZONE: Final = r"(?P<zone>Z|[+-]\d\d:\d\d)"
_RFC3339: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d{1,9})?)?)?"
    + _ZONE
)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TimeFormat(StrEnum):
    """Names of `--time-format`."""

    STAMP_MILLI = "StampMilli"
    YEAR_MONTH_DAY = "YearMonthDay"
    YEAR_MONTH_DAY_HOUR = "YearMonthDayHour"
    YEAR_MONTH_DAY_HOUR_MINUTE = "YearMonthDayHourMinute"
    RFC3339 = "RFC3339"
    RFC3339_MILLI = "RFC3339Milli"
    RFC3339_MICRO = "RFC3339Micro"
    RFC3339_NANO = "RFC3339Nano"
    RFC1123Z = "RFC1123Z"


def format_time(time_ns: int, layout: TimeFormat = TimeFormat.STAMP_MILLI) -> str:
    """`time_ns` in a layout; empty for 0, which means "no time"."""
    if not time_ns:
        return ""
    seconds, nanos = divmod(time_ns, NS)
    t = _EPOCH + timedelta(seconds=seconds)
    clock = f"{t.hour:02}:{t.minute:02}:{t.second:02}"
    date = f"{t.year:04}-{t.month:02}-{t.day:02}"
    fraction = f"{nanos:09}"
    match layout:
        case TimeFormat.STAMP_MILLI:
            return f"{_MONTHS[t.month - 1]} {t.day:2} {clock}.{fraction[:3]}"
        case TimeFormat.YEAR_MONTH_DAY:
            return date
        case TimeFormat.YEAR_MONTH_DAY_HOUR:
            return f"{date}T{t.hour:02}Z"
        case TimeFormat.YEAR_MONTH_DAY_HOUR_MINUTE:
            return f"{date}T{t.hour:02}:{t.minute:02}Z"
        case TimeFormat.RFC3339:
            return f"{date}T{clock}Z"
        case TimeFormat.RFC3339_MILLI:
            return f"{date}T{clock}.{fraction[:3]}Z"
        case TimeFormat.RFC3339_MICRO:
            return f"{date}T{clock}.{fraction[:6]}Z"
        case TimeFormat.RFC3339_NANO:
            return f"{date}T{clock}.{fraction}Z"
        case TimeFormat.RFC1123Z:
            return f"{_DAYS[t.weekday()]}, {t.day:02} {_MONTHS[t.month - 1]} {t.year:04} {clock} +0000"


def proto_timestamp(time_ns: int) -> str:
    """A Timestamp in proto3 JSON: 0, 3, 6 or 9 fractional digits, as few as are needed."""
    base = format_time(time_ns, TimeFormat.RFC3339)[:-1]
    fraction = f"{time_ns % NS:09}"
    while fraction.endswith("000"):
        fraction = fraction[:-3]
    return f"{base}.{fraction}Z" if fraction else f"{base}Z"


def parse_timestamp(text: str) -> int:
    """RFC 3339 with up to nine fractional digits, also cut after hour or minute → nanoseconds since the epoch."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not a date: {text!r}")
    part = match.groupdict()
    zone = "+00:00" if part["zone"] in ("Z", "z") else part["zone"]
    moment = datetime.fromisoformat(
        f"{part['date']}T{part['hour']}:{part['minute'] or '00'}:{part['second'] or '00'}{zone}"
    )
    return (moment - _EPOCH) // timedelta(seconds=1) * NS + int((part["fraction"] or ".0")[1:].ljust(9, "0"))


def parse_duration(text: str) -> int | None:
    """`1h43m`, `3s`, `1.5s` → nanoseconds; None when `text` is no duration."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(float(number) * _UNITS[unit]) for number, unit in parts)


def parse_moment(text: str, now_ns: int) -> int:
    """What `--since` and `--until` accept: a duration before now, or a date. ValueError says what would do."""
    duration = parse_duration(text)
    if duration is not None:
        return now_ns - duration
    try:
        if _DATE.fullmatch(text):
            return parse_timestamp(f"{text}T00Z")
        return parse_timestamp(text)
    except ValueError:
        pass
    try:
        return (datetime.strptime(text, "%a, %d %b %Y %H:%M:%S %z") - _EPOCH) // timedelta(seconds=1) * NS
    except ValueError:
        hint = "a duration such as 3s, 4m or 1h43m, or a date such as 2026-01-02 or 2026-01-02T15:04:05Z"
        raise ValueError(f"{text!r} is no time: expected {hint}") from None
