"""Messages that dnslib built, as `parsers.dns` reads them and as a slow reading with dnslib does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import dnslib
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.dns.answer import MAX_TTL, Learnt, read_answer
from parsers.dns.described import describe
from parsers.dns.message import DnsError, read_query
from tests.parsers.dns.building import AAAA, ANY, CNAME, HTTPS, SVCB, A

NAMES = ("a.test", "a.test", "a.test", "c.a.test", "deep.er.c.a.test")
KINDS = (A, A, A, AAAA, AAAA, AAAA, CNAME, HTTPS, HTTPS, 16, 2, 15)
QUERY_KINDS = (A, A, A, AAAA, AAAA, AAAA, ANY, ANY, HTTPS, HTTPS, SVCB, 16, CNAME)
ADDRESSES = {A: ("192.0.2.1", "192.0.2.2", "198.51.100.7"), AAAA: ("2001:db8::1", "2001:db8::2", "fe80::9")}
WANTED = {A: (A,), AAAA: (AAAA,), ANY: (A, AAAA), HTTPS: (HTTPS,), SVCB: (SVCB,)}


def in_any_case(name: str, draw: random.Random) -> str:
    return "".join(draw.choice((letter.lower(), letter.upper())) for letter in name)


def some_record(draw: random.Random, kinds: tuple[int, ...]) -> Any:
    kind = draw.choice(kinds)
    name = in_any_case(draw.choice(NAMES), draw)
    other = in_any_case(draw.choice(NAMES), draw)
    match kind:
        case 1:
            data: Any = dnslib.A(draw.choice(ADDRESSES[A]))
        case 28:
            data = dnslib.AAAA(draw.choice(ADDRESSES[AAAA]))
        case 5:
            data = dnslib.CNAME(other)
        case 65:
            hints = [
                (1, b"\2h2"),
                (4, bytes(draw.choices(range(256), k=8))),
                (6, bytes(draw.choices(range(256), k=16))),
            ]
            data = dnslib.HTTPS(draw.choice((0, 1, 1)), [], draw.choice((hints, hints[1:], hints[:1], [])))
        case 16:
            data = dnslib.TXT("text")
        case 2:
            data = dnslib.NS(other)
        case _:
            data = dnslib.MX(other)
    ttl = draw.choice((0, 30, 300, 86400, 700000, 0x80000001))
    return dnslib.RR(name, kind, rdata=data, ttl=ttl, rclass=draw.choice((1, 1, 1, 1, 1, 3)))


def messages(seed: int) -> Iterator[tuple[bytes, bytes]]:
    """A query and an answer to it."""
    draw = random.Random(seed)
    kind = draw.choice(QUERY_KINDS)
    name = in_any_case(draw.choice(NAMES), draw)
    asked = dnslib.DNSRecord(dnslib.DNSHeader(id=seed & 0xFFFF, rd=1), q=dnslib.DNSQuestion(name, kind))
    if draw.random() < 0.5:
        asked.add_ar(dnslib.EDNS0(flags=draw.choice(("", "do")), udp_len=draw.choice((512, 1232, 4096))))
    kinds = KINDS if draw.random() < 0.5 else tuple(it for it in KINDS if it != CNAME)
    answer = dnslib.DNSRecord(
        dnslib.DNSHeader(id=seed & 0xFFFF, qr=1, rd=1, ra=1, rcode=draw.choice((0, 0, 0, 0, 0, 0, 0, 3))),
        q=dnslib.DNSQuestion(name, kind),
        rr=[some_record(draw, kinds) for _ in range(draw.randint(1, 8))],
        auth=[some_record(draw, KINDS) for _ in range(draw.choice((0, 0, 2)))],
        ar=[some_record(draw, KINDS) for _ in range(draw.choice((0, 0, 2)))],
    )
    yield bytes(asked.pack()), bytes(answer.pack())


def label_of(name: Any) -> tuple[bytes, ...]:
    return tuple(label.lower() for label in name.label)


def plain_ttl(ttl: int) -> int:
    return 0 if ttl >> 31 else min(ttl, MAX_TTL)


def reference(query: bytes, answer: bytes) -> Learnt | None:
    """None: it contradicts itself."""
    asked, told = dnslib.DNSRecord.parse(query), dnslib.DNSRecord.parse(answer)
    mine = [record for record in told.rr if record.rclass == 1]
    aliases: dict[tuple[bytes, ...], set[tuple[bytes, ...]]] = {}
    for record in mine:
        if record.rtype == CNAME:
            aliases.setdefault(label_of(record.rname), set()).add(label_of(record.rdata.label))
    if any(len(targets) > 1 for targets in aliases.values()):
        return None
    passed = [label_of(asked.q.qname)]
    while passed[-1] in aliases:
        (target,) = aliases[passed[-1]]
        if target in passed:
            return None
        passed.append(target)
    addresses: list[bytes] = []
    ttls = [plain_ttl(it.ttl) for it in mine if it.rtype == CNAME and label_of(it.rname) in passed]
    for record in mine:
        if label_of(record.rname) != passed[-1] or record.rtype not in WANTED.get(asked.q.qtype, ()):
            continue
        found = list(addresses_of(record))
        addresses += found
        ttls += [plain_ttl(record.ttl)] * bool(found)
    counts = addresses and not told.header.rcode
    return Learnt(tuple(dict.fromkeys(addresses)), min(ttls)) if counts else Learnt((), 0)


def addresses_of(record: Any) -> Iterator[bytes]:
    if record.rtype in (A, AAAA):
        yield ip_address(str(record.rdata)).packed
    elif record.rdata.priority:
        for key, value in record.rdata.params:
            size = {4: 4, 6: 16}.get(key, 0)
            yield from (bytes(value[at : at + size]) for at in range(0, len(value) if size else 0, size or 1))


@settings(max_examples=1000)
@given(st.integers(0, 1 << 48))
def test_answers_teach_the_same(seed: int) -> None:
    ((asked, answer),) = messages(seed)
    expected = reference(asked, answer)
    try:
        found: Learnt | None = read_answer(answer, read_query(asked))
    except DnsError:
        found = None
    assert found == expected


def test_the_reference_sees_all_kinds_of_answers() -> None:
    """Were nearly all of them broken or empty, they would say little."""
    found = [reference(*pair) for seed in range(2000) for pair in messages(seed)]
    assert sum(it is None for it in found) > 50
    assert sum(bool(it and it.addresses) for it in found) > 300
    assert sum(bool(it and len(it.addresses) > 1) for it in found) > 50


@settings(max_examples=300)
@given(st.integers(0, 1 << 48))
def test_queries_and_descriptions(seed: int) -> None:
    ((asked, answer),) = messages(seed)
    query, parsed = read_query(asked), dnslib.DNSRecord.parse(asked)
    assert query.facts.name == str(parsed.q.qname).lower().removesuffix(".")
    assert query.facts.query_type == dnslib.QTYPE[parsed.q.qtype]
    assert query.has_edns == bool(parsed.ar)
    if parsed.ar:
        assert (query.payload, query.wants_dnssec) == (parsed.ar[0].rclass, parsed.ar[0].ttl == 0x8000)
    told, whole = describe(answer), dnslib.DNSRecord.parse(answer)
    assert told.types == tuple(dnslib.QTYPE[record.rtype] for record in whole.rr)
    targets = [str(it.rdata.label).lower().removesuffix(".") for it in whole.rr if (it.rtype, it.rclass) == (CNAME, 1)]
    assert told.cnames == tuple(targets)
