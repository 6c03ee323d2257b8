"""ApiVersions: what is left of a server's versions, against kafka-python, real answers, and hostile ones."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from parsers.errors import ParseError
from parsers.kafka.api_versions import intersected
from tests.parsers.kafka.oracle import Filler, assert_withstands, captured, encoded, messages

Response: Any = messages("response")[18]
RANGES = {0: (0, 13), 1: (4, 18), 3: (0, 12), 17: (1, 1), 18: (0, 4), 68: (0, 1)}


def answer_of(version: int, keys: list[tuple[int, int, int]], seed: int = 0, error: int = 0) -> Any:
    entries = [Response.ApiVersion(version=version, api_key=k, min_version=a, max_version=b) for k, a, b in keys]
    filler = Filler(random.Random(f"{version} {seed}"))
    return filler.message(Response, version, error_code=error, api_keys=entries)


@pytest.mark.parametrize("version", range(5))
def test_only_what_both_know_is_left(version: int) -> None:
    given = [(0, 0, 20), (1, 0, 3), (2, 0, 9), (3, 2, 13), (17, 0, 1), (18, 0, 5), (68, 1, 1), (99, 0, 0), (9999, 0, 3)]
    left = [(0, 0, 13), (3, 2, 12), (17, 1, 1), (18, 0, 4), (68, 1, 1)]
    for seed in range(20):
        body = encoded(answer_of(version, given, seed))
        assert intersected(version, body, RANGES) == encoded(answer_of(version, left, seed))


@pytest.mark.parametrize("version", range(5))
def test_at_random(version: int) -> None:
    rng = random.Random(version)
    for seed in range(50):
        keys = rng.sample(range(100), rng.randrange(30))
        given = [(key, rng.randrange(5), rng.randrange(20)) for key in keys]
        ranges = {key: (rng.randrange(5), rng.randrange(20)) for key in range(100) if rng.random() < 0.7}
        left = [(key, max(low, ranges[key][0]), min(high, ranges[key][1])) for key, low, high in given if key in ranges]
        left = [(key, low, high) for key, low, high in left if low <= high]
        body = encoded(answer_of(version, given, seed))
        assert intersected(version, body, ranges) == encoded(answer_of(version, left, seed))


def test_many_keys() -> None:
    """More than a byte counts."""
    given = [(key, 0, 3) for key in range(400)]
    ranges = dict.fromkeys(range(0, 400, 2), (0, 9))
    body = intersected(3, encoded(answer_of(3, given)), ranges)
    assert body == encoded(answer_of(3, given[::2]))


@pytest.mark.parametrize("version", range(5))
def test_a_server_that_does_not_know_the_version(version: int) -> None:
    """It answers in version 0, so that everybody can read what it knows (KIP-511)."""
    genuine = bytes.fromhex("0023 00000001 0012 0000 0004")
    assert intersected(version, genuine, RANGES) == genuine
    assert intersected(version, genuine, {18: (0, 3)}) == bytes.fromhex("0023 00000001 0012 0000 0003")
    assert intersected(version, genuine, {}) == bytes.fromhex("0023 00000000")
    assert intersected(version, b"\0\x23\0\0\0\0", RANGES) == b"\0\x23\0\0\0\0"
    own = encoded(answer_of(version, [(18, 0, 9)], error=35))
    assert intersected(version, own, RANGES) == encoded(answer_of(version, [(18, 0, 4)], error=35))


@pytest.mark.parametrize("version", range(5))
def test_an_error_without_keys_passes(version: int) -> None:
    body = encoded(answer_of(version, [], error=42))
    assert intersected(version, body, RANGES) == body


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("key", [1, 99])
def test_a_key_that_comes_twice(version: int, key: int) -> None:
    with pytest.raises(ParseError, match="twice"):
        intersected(version, encoded(answer_of(version, [(key, 0, 3), (3, 0, 1), (key, 0, 1)])), RANGES)


def test_real_answers() -> None:
    count = 0
    for version, _, body in captured(18):
        everything = dict.fromkeys(range(-1, 32768), (0, 99))
        assert intersected(version, body, everything) == body
        error = int.from_bytes(body[:2], "big")
        changed = intersected(version, body, {18: (0, 4)})
        message = Response.decode(changed, version=0 if error == 35 else version)
        assert [entry.api_key for entry in message.api_keys] == [18]
        count += 1
    assert count > 20


@pytest.mark.parametrize("version", range(5))
def test_hostile_bytes(version: int) -> None:
    rng = random.Random(version)
    for seed in range(10):
        body = encoded(answer_of(version, [(0, 0, 20), (1, 0, 3), (99, 0, 9)], seed))
        assert_withstands(lambda body: intersected(version, body, RANGES), body, rng)


@pytest.mark.parametrize("version", range(5))
def test_huge_counts_fail_at_once(version: int) -> None:
    count = b"\xff\xff\xff\xff\x0f" if version >= 3 else b"\x7f\xff\xff\xff"
    for error in (b"\0\0", b"\0\x23"):
        began = time.process_time()
        with pytest.raises(ParseError):
            intersected(version, error + count + bytes(20), RANGES)
        assert time.process_time() - began < 0.3
