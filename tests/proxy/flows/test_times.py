"""Durations, dates and layouts."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.flows.times import (
    NS,
    TimeFormat,
    format_time,
    parse_duration,
    parse_moment,
    parse_timestamp,
    proto_timestamp,
)

# 2026-01-02T15:04:05.006007008Z, a Friday
MOMENT = 1_767_366_245_006_007_008


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (TimeFormat.STAMP_MILLI, "Jan  2 15:04:05.006"),
        (TimeFormat.YEAR_MONTH_DAY, "2026-01-02"),
        (TimeFormat.YEAR_MONTH_DAY_HOUR, "2026-01-02T15Z"),
        (TimeFormat.YEAR_MONTH_DAY_HOUR_MINUTE, "2026-01-02T15:04Z"),
        (TimeFormat.RFC3339, "2026-01-02T15:04:05Z"),
        (TimeFormat.RFC3339_MILLI, "2026-01-02T15:04:05.006Z"),
        (TimeFormat.RFC3339_MICRO, "2026-01-02T15:04:05.006007Z"),
        (TimeFormat.RFC3339_NANO, "2026-01-02T15:04:05.006007008Z"),
        (TimeFormat.RFC1123Z, "Fri, 02 Jan 2026 15:04:05 +0000"),
    ],
)
def test_layouts(layout: TimeFormat, text: str) -> None:
    assert format_time(MOMENT, layout) == text
    if layout is not TimeFormat.STAMP_MILLI:
        parsed = parse_moment(text, 0)
        assert format_time(parsed, layout) == text


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 4_000_000_000 * NS))
def test_timestamps_read_back(time_ns: int) -> None:
    text = proto_timestamp(time_ns)
    assert parse_timestamp(text) == time_ns
    assert len(text.partition(".")[2]) in (0, 4, 7, 10)


def test_zones() -> None:
    assert parse_timestamp("2026-01-02T16:04:05+01:00") == parse_timestamp("2026-01-02T15:04:05Z")


@pytest.mark.parametrize(("text", "seconds"), [("3s", 3), ("4m", 240), ("1h43m", 6180), ("1.5s", 1.5), ("250ms", 0.25)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == int(seconds * NS)
    assert parse_moment(text, MOMENT) == MOMENT - int(seconds * NS)


@pytest.mark.parametrize(
    "text", ["", "5", "yesterday", "2026-13-01", "2026-01-02T25:00:00Z", "3s ago", "2026-01-02T15:04"]
)
def test_what_is_no_time_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_moment(text, MOMENT)
