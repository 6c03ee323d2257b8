"""Cases of Cilium's DNS proxy as bytes on the wire (`cilium-cases.md`, section 3)."""

from __future__ import annotations

import pytest

from parsers.dns.answer import NOTHING, Learnt, read_answer
from parsers.dns.described import describe
from parsers.dns.message import DnsError, read_query
from tests.parsers.dns.building import AAAA, alias, answer, at, message, packed, query, wire

QUERY = query("cilium.io")


def test_q33_no_question() -> None:
    """Q33: as a query, and as an answer."""
    with pytest.raises(DnsError) as caught:
        read_query(message(b"", questions=0))
    assert caught.value.rcode == 1
    with pytest.raises(DnsError):
        read_answer(message(b"", flags=0x8180, questions=0), QUERY)


def test_q34_a_query_with_an_answer_section() -> None:
    """Q34: nothing is learnt, as the query is not even accepted."""
    asks = message(QUERY.question, at("192.0.2.3"), counts=(1, 0, 0))
    with pytest.raises(DnsError):
        read_query(asks)
    with pytest.raises(DnsError):
        read_answer(asks, QUERY)


def test_q35_an_address() -> None:
    """Q35"""
    data = answer(QUERY.question, at("192.0.2.3", ttl=3600))
    assert read_answer(data, QUERY) == Learnt(packed("192.0.2.3"), 3600)
    assert describe(data).ttl == 3600


def test_q37_an_alias() -> None:
    """Q37"""
    target = wire("cname.cilium.io")
    data = answer(QUERY.question, alias(target, ttl=1800), at("192.0.2.3", owner=target, ttl=3600))
    assert read_answer(data, QUERY) == Learnt(packed("192.0.2.3"), 1800)
    told = describe(data)
    assert (told.ttl, told.cnames) == (1800, ("cname.cilium.io",))


def test_q38_three_aliases() -> None:
    """Q38"""
    asks = query("cilium.io", AAAA)
    first, second, third = (wire(f"cname{number}.cilium.io") for number in (1, 2, 3))
    data = answer(
        asks.question,
        alias(first, ttl=7200),
        alias(second, owner=first, ttl=3600),
        alias(third, owner=second, ttl=7200),
        at("f00d::1", owner=third, ttl=7200),
    )
    assert read_answer(data, asks) == Learnt(packed("f00d::1"), 3600)
    told = describe(data)
    assert (told.ttl, told.cnames) == (3600, ("cname1.cilium.io", "cname2.cilium.io", "cname3.cilium.io"))


def test_q39_records_of_other_owners() -> None:
    """Q39, otherwise by design: what is not the name's own opens nothing, though it goes on and is told."""
    others = at("192.0.2.3", owner=wire("other.io"), ttl=3600), at("192.0.2.4", owner=wire("another.io"), ttl=1800)
    data = answer(QUERY.question, *others)
    assert read_answer(data, QUERY) == NOTHING
    told = describe(data)
    assert (told.ttl, told.addresses) == (1800, packed("192.0.2.3", "192.0.2.4"))
