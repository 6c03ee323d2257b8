"""The benchmark's attacks are what they say: each flood exceeds the default limit that it is about."""

from __future__ import annotations

import pytest

from benchmarks.attacker import ATTACKS
from benchmarks.attacks import CASES
from parsers.filters import End
from parsers.http2.conversation import Http2Shared
from parsers.http2.filter import Http2Filter
from tests.parsers.http1.driving import Connection as Http1
from tests.parsers.http2.driving import PathJudge


def test_every_attack_is_measured_and_the_other_way_round() -> None:
    assert list(ATTACKS) == list(CASES)


@pytest.mark.parametrize(
    ("case", "limit"),
    [
        ("ping-flood", "control_frames"),
        ("settings-flood", "control_frames"),
        ("rapid-reset", "reset_streams"),
        ("continuation-flood", "continuation_frames"),
    ],
)
def test_a_flood_is_cut_at_its_limit(case: str, limit: str) -> None:
    filter_ = Http2Filter(PathJudge(), Http2Shared())
    filter_.client_data(ATTACKS[case].opening, 0)
    assert (filter_.limit, filter_.end) == (limit, End.CLOSE)


def test_malformed_is_answered_with_400_and_the_end() -> None:
    connection = Http1()
    connection.client(ATTACKS["malformed"].opening)
    assert connection.outcome.to_client.startswith(b"HTTP/1.1 400 ")
    assert connection.filter.end is End.CLOSE


def test_refusals_keep_their_connection_open() -> None:
    connection = Http1(lambda request: False)
    connection.client(ATTACKS["pipelined-refusals"].opening)
    assert connection.outcome.to_client.count(b"HTTP/1.1 403 ") == 500
    assert connection.filter.end is None
