"""DNS: queries, answers, and both sides of a connection over TCP, against readings that are slow and plain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress

from parsers.dns.answer import MAX_CHAIN, MAX_RECORDS, MAX_TTL, NOTHING, Learnt, fits, read_answer
from parsers.dns.described import describe
from parsers.dns.filter import DnsFilter, DnsShared
from parsers.dns.judging import DnsExchange
from parsers.dns.message import DnsError, Query, read_query
from parsers.dns.replies import failed, malformed, refused, truncated
from parsers.filters import End
from parsers.limits import DnsLimits
from tests.fuzz.run import SECOND, Run
from tests.fuzz.shaping import Shape, pieces, shape, shaped
from tests.parsers.dns.building import (
    AAAA,
    ANY,
    CNAME,
    EDNS,
    HTTPS,
    NS,
    OPT,
    RESPONSE,
    SVCB,
    TRUNCATED,
    TSIG,
    TXT,
    A,
    alias,
    answer,
    asked,
    at,
    message,
    pointer,
    query,
    query_bytes,
    rr,
    service,
    wire,
)
from tests.parsers.dns.driving import REFUSED, Judge, Opener, framed, messages

QUERIES = [query("wWw.a.test", kind) for kind in (A, AAAA, ANY, HTTPS, SVCB, CNAME, TXT)] + [query(".", A)]
"""Each is a variant."""

LARGEST = 65537
_WANTED = {A: (A,), AAAA: (AAAA,), ANY: (A, AAAA), SVCB: (SVCB,), HTTPS: (HTTPS,)}
_MAPPED = bytes(10) + b"\xff\xff"

Labels = tuple[bytes, ...]


class Broken(Exception):
    """Said by the plain readings."""


class CutOff(Broken):
    """There are not all of the bytes."""


# -- plain readings ----------------------------------------------------------------------------------------------------


class Plain:
    """A message from its beginning on; every byte that is read must be there."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, size: int = 2) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise CutOff
        self.at += size
        return taken

    def name(self) -> Labels:
        labels: list[bytes] = []
        start, behind, size = self.at, 0, 1
        while True:
            length = self.number(1)
            if not length:
                break
            if length >= 192:
                target = (length - 192) * 256 + self.number(1)
                behind = behind or self.at
                if not 12 <= target < start:
                    raise Broken("pointer")
                self.at = start = target
            elif length > 63:
                raise Broken("label")
            else:
                labels.append(self.take(length).lower())
                size += length + 1
        if size > 255:
            raise Broken("long name")
        self.at = behind or self.at
        return tuple(labels)

    def skip_name(self) -> bool:
        """Whatever a pointer may point to. True: it is the root."""
        start = self.at
        while 0 < (length := self.number(1)) < 192:
            self.take(length)
        if length:
            self.take(1)
        return self.at == start + 1


class PlainAnswer:
    """The records of an answer section, to a query of this kind, that have been read so far."""

    def __init__(self, data: bytes, kind: int) -> None:
        self.it = Plain(data)
        self.it.at = 12
        self.kind = kind
        self.asked = self.it.name()
        self.it.take(4)
        self.aliases: dict[Labels, set[tuple[Labels, int]]] = {}
        self.found: list[tuple[Labels, int, int, list[bytes]]] = []

    def read(self) -> None:
        it = self.it
        owner, type_, group, ttl, size = it.name(), it.number(), it.number(), it.number(4), it.number()
        start = it.at
        value = it.take(size)
        if group != 1:
            return
        ttl = 0 if ttl >> 31 else min(ttl, MAX_TTL)
        if type_ in (A, AAAA):
            if size != {A: 4, AAAA: 16}[type_]:
                raise Broken("address")
            self.found.append((owner, type_, ttl, [value]))
        elif type_ == CNAME:
            it.at = start
            target = it.name()
            self.aliases.setdefault(owner, set()).add((target, ttl))
            if it.at != start + size or len({target for target, _ in self.aliases[owner]}) > 1:
                raise Broken("alias")
        elif type_ in (SVCB, HTTPS) and type_ == self.kind:
            self.found.append((owner, type_, ttl, plain_hints(value)))


def plainly_learnt(data: bytes, kind: int) -> Learnt:
    """What an answer teaches that fits a query of this kind."""
    counts = [int.from_bytes(data[place : place + 2], "big") for place in (6, 8, 10)]
    if sum(counts) > MAX_RECORDS or len(data) > 65535:
        raise Broken("many")
    told, rcode, is_truncated = PlainAnswer(data, kind), data[3] & 15, bool(data[2] & 2)
    it = told.it
    with suppress(CutOff) if is_truncated else nullcontext():
        for _ in range(counts[0]):
            told.read()
    if not is_truncated:
        for _ in range(counts[1] + counts[2]):
            it.name()
            type_, _, ttl = it.number(), it.number(), it.number(4)
            it.take(it.number())
            rcode |= (ttl >> 24) << 4 if type_ == OPT else 0
        if it.at != len(data):
            raise Broken("more")
    end_of_chain, aliases, found = told.asked, told.aliases, told.found
    ttls: list[int] = []
    passed: list[Labels] = []
    while end_of_chain in aliases:
        if end_of_chain in passed or len(passed) == MAX_CHAIN:
            raise Broken("chain")
        passed.append(end_of_chain)
        ttls += [ttl for _, ttl in aliases[end_of_chain]]
        end_of_chain = next(iter(aliases[end_of_chain]))[0]
    mine = [one for one in found if one[0] == end_of_chain and one[1] in _WANTED.get(kind, ()) and one[3]]
    addresses = [address for one in mine for address in one[3] if address[:12] != _MAPPED]
    ttls += [one[2] for one in mine]
    return Learnt(tuple(dict.fromkeys(addresses)), min(ttls)) if addresses and not rcode else NOTHING


def plain_hints(value: bytes) -> list[bytes]:
    it, last, found = Plain(value), -1, list[bytes]()
    is_alias = it.number() == 0
    while length := it.number(1):
        if length > 63:
            raise Broken("target")
        it.take(length)
    while it.at < len(value) and not is_alias:
        key, hint = it.number(), it.take(it.number())
        size = {4: 4, 6: 16}.get(key)
        if key <= last or (size and (not hint or len(hint) % size)):
            raise Broken("parameters")
        last = key
        found += [hint[place : place + size] for place in range(0, len(hint), size)] if size else []
    return found


# -- queries -----------------------------------------------------------------------------------------------------------


def dns_query(data: bytes) -> None:
    """One query: what is accepted is one question, and every reply to it fits."""
    stream = shaped(data)[1]
    try:
        found = read_query(stream)
    except DnsError as error:
        rcode = error.rcode
    else:
        _check_query(stream, found)
        return
    assert rcode is None or malformed(stream, rcode) is not None


def _check_query(stream: bytes, found: Query) -> None:
    it = Plain(stream)
    head = [it.number() for _ in range(6)]
    labels, kind, group = it.name(), it.number(), it.number()
    assert (head[1] & 0xFA00, head[2:5], group) == (0, [1, 0, 0], 1)
    assert kind not in (251, 252)
    assert stream[12 : it.at] == found.question == stream[12 : found.question_end]
    assert found.facts.name.count(".") == max(len(labels) - 1, 0)
    for text, label in zip(found.facts.name.split("."), labels, strict=bool(labels)):
        assert "\\" in text or text.encode() == label
    for number in range(head[5]):
        is_root = it.skip_name()
        type_ = it.number()
        assert type_ == OPT or number == head[5] - 1
        assert type_ != OPT or is_root
        it.take(6)
        it.take(it.number())
    assert it.at == len(stream)
    for reply in (refused(stream, found, REFUSED), failed(stream, found), truncated(stream, found)):
        assert fits(reply, found)
        assert reply[:2] == stream[:2]
        assert bool(reply[11]) == found.has_edns
        assert read_answer(reply, found) == NOTHING


def query_seeds() -> Iterator[bytes]:
    for stream in _queries():
        yield shape() + stream


def _queries() -> Iterator[bytes]:
    yield from (query_bytes("wWw.a.test", kind) for kind in (A, AAAA, HTTPS, 252, 251, 65280))
    yield from (query_bytes(name, A, EDNS) for name in (".", "a" * 63, ".".join("a" * 127)))
    yield query_bytes("a.test", A, rr(OPT, b"\0\x0a\0\x08cookie00", owner=b"\0", ttl=0x8000, group=4096))
    yield query_bytes("a.test", A, EDNS, rr(TSIG, b"x" * 20, owner=wire("key.a.test")))
    yield query_bytes("a.test", A, rr(TSIG, b"x" * 20, owner=b"\3key" + pointer(12)))
    yield query_bytes("a.test", A, rr(24, b"x" * 20, owner=b"\0"))
    yield query_bytes("a.test", A, EDNS, EDNS)
    yield query_bytes("a.test", A, rr(TSIG, b"", owner=b"\0"), EDNS)
    yield query_bytes("a.test", A, at("192.0.2.1"))
    yield query_bytes()[:-3]
    yield query_bytes() + b"\0"
    yield message(asked() * 2, questions=2)
    yield message(asked(), flags=RESPONSE)
    yield message(asked(), flags=0x2800)
    yield message(asked(group=255))
    yield message(b"\3a.b\2\\\xff\0\0\1\0\1")
    yield message(b"\xc0\x0c\0\1\0\1")
    yield message(b"\x40" + b"a" * 64 + b"\0\0\1\0\1")
    yield b"\x12\x34\1"


# -- answers -----------------------------------------------------------------------------------------------------------


def dns_answer(data: bytes) -> None:
    """One answer to the variant's query: it teaches what a plain reading finds in it."""
    shape_, stream = shaped(data)
    asks = QUERIES[shape_.variant]
    told = describe(stream)
    assert max(len(told.addresses), len(told.cnames), len(told.types)) <= 64
    kind = int.from_bytes(asks.question[-4:-2], "big")
    found = _or_none(stream, shape_.variant)
    if not fits(stream, asks):
        assert found is None
        return
    if len(stream) == 12:
        assert found == NOTHING
        return
    expected = NOTHING if stream[2] & 2 else None
    with suppress(Broken):
        expected = plainly_learnt(stream, kind)
    assert found == expected


def _or_none(data: bytes, variant: int) -> Learnt | None:
    """None: it is broken."""
    try:
        return read_answer(data, QUERIES[variant])
    except DnsError:
        return None


def answer_seeds() -> Iterator[bytes]:
    for variant, asks in enumerate(QUERIES):
        for stream in _answers(asks.question):
            yield shape(variant=variant) + stream


def _answers(question: bytes) -> Iterator[bytes]:
    behind = 12 + len(question)
    b, c = wire("b.test"), wire("C.test")
    both = at("192.0.2.1"), at("2001:db8::1", ttl=30)
    hints = service((1, b"\2h2"), (4, bytes(8)), (6, bytes(range(16))), target=b)
    yield answer(question, *both)
    yield answer(question, *both, rr(AAAA, _MAPPED + bytes(4)), EDNS, counts=(3, 0, 1))
    yield answer(question, alias(b), alias(c, owner=b), *(at(it, owner=c) for it in ("192.0.2.1", "2001:db8::1")))
    yield answer(question, alias(b"\1b" + pointer(16)), at("192.0.2.1", owner=pointer(behind + 12), ttl=1 << 31))
    yield answer(question, rr(HTTPS, hints), rr(SVCB, hints), rr(HTTPS, service(priority=0, target=b)))
    yield answer(question, rr(HTTPS, service((6, bytes(4)))), rr(SVCB, service((4, bytes(4)), (1, b""))))
    yield answer(question, at("192.0.2.1"), rr(NS, b), at("192.0.2.6", owner=b), EDNS, counts=(1, 1, 2))
    yield answer(question, *both, rr(OPT, b"", owner=b"\0", ttl=1 << 24), counts=(2, 0, 1))
    yield answer(question, *both, flags=RESPONSE | 3)
    cut = RESPONSE | TRUNCATED
    yield answer(question, *both, flags=cut)[:-3]
    yield answer(question, *both, flags=cut)[: behind + 16]
    yield answer(question, alias(b), at("192.0.2.6"), *(at(it, owner=b) for it in ("192.0.2.1", "::1")), flags=cut)
    yield answer(question, *both, rr(HTTPS, hints), rr(NS, b), EDNS, flags=cut, counts=(3, 1, 9))
    yield answer(question, *both, alias(b), alias(c), flags=cut)
    yield answer(question, rr(HTTPS, hints), rr(HTTPS, hints[:-3]), rr(CNAME, b[:-1], owner=c), flags=cut)
    yield answer(question, alias(b), alias(question[:-4], owner=b))
    yield answer(question, alias(b), alias(c))
    yield answer(question, alias(b), *both)
    yield answer(question, at("192.0.2.1", owner=pointer(behind)))
    yield answer(question, at("192.0.2.1", owner=pointer(behind + 16)), at("192.0.2.1"))
    yield answer(question, at("192.0.2.1", owner=b"\1a" * 127 + pointer(12)))
    yield answer(question, *both, counts=(3, 0, 0))
    yield answer(question, *both, counts=(65535, 65535, 65535))
    yield answer(question, *both) + b"\0"
    yield answer(question, rr(A, bytes(5)))
    yield message(b"", flags=RESPONSE | 1, questions=0)
    yield message(question * 2, flags=RESPONSE, questions=2)


# -- TCP ---------------------------------------------------------------------------------------------------------------


class _DnsRun(Run):
    filter: DnsFilter

    def __init__(self, shape_: Shape) -> None:
        self.judge, self.opener = Judge(), Opener()
        self.exchanges: list[DnsExchange] = []
        self.limits = DnsLimits(pending_queries=2) if shape_.is_tight else DnsLimits()
        self.shared = DnsShared(self.limits, REFUSED, self.exchanges)
        super().__init__(DnsFilter(self.shared, self.judge, None if shape_.variant & 1 else self.opener, None))

    def expire(self) -> None:
        """No query that waits has to wait for so long."""
        waited = len(self.filter._pending)
        self.filter.expire(SECOND + self.limits.timeout_ns)
        assert len(self.filter._pending) == waited
        self.filter.expire(SECOND + self.limits.timeout_ns + 1)
        assert self.end is not None or (not self.filter._pending and self.shared.counters["dns.timeouts"] == waited)
        self._took(b"", b"", 0)

    def check_bounds(self, read: int) -> None:
        filter_ = self.filter
        assert len(filter_._client.held) < LARGEST
        assert len(filter_._server.held) < LARGEST
        assert len(filter_._pending) <= self.limits.pending_queries


def dns_tcp(data: bytes) -> None:
    """Two bytes that say how long the client's part is, what the client sends, and what the server answers."""
    shape_, stream = shaped(data)
    size = int.from_bytes(stream[:2], "big")
    client, server = stream[2 : 2 + size], stream[2 + size :]
    whole = _both(shape_, [client], [server])
    cut = _both(shape_, pieces(client, shape_.sizes), pieces(server, shape_.sizes))
    assert (cut.to_server, cut.to_client) == (whole.to_server, whole.to_client)
    assert (cut.end, cut.failure, cut.limit) == (whole.end, whole.failure, whole.limit)
    assert cut.judge.seen == whole.judge.seen
    assert cut.opener == whole.opener
    assert cut.shared.counters == whole.shared.counters
    assert [_told(it) for it in cut.exchanges] == [_told(it) for it in whole.exchanges]
    for run in (whole, cut):
        _check(run)


def _both(shape_: Shape, client: Iterable[bytes], server: Iterable[bytes]) -> _DnsRun:
    run = _DnsRun(shape_)
    run.client(piece for piece in client if piece)
    if shape_.variant & 2:
        run.expire()
    run.server(piece for piece in server if piece)
    run.finish(shape_.ending)
    return run


def _told(exchange: DnsExchange) -> tuple[str, str, bool, int, bytes]:
    facts = exchange.query
    return facts.name, facts.query_type, exchange.ruling.permit, exchange.rcode, exchange.answer


def _check(run: _DnsRun) -> None:
    assert len(run.exchanges) == len(run.judge.seen), "each query is recorded once"
    asked_for = [read_query(forwarded) for forwarded in messages(run.to_server)]
    assert not any(it.facts.name.startswith("deny") for it in asked_for)
    assert len({it.id for it in asked_for}) == len(asked_for)
    told = list(messages(run.to_client))
    assert all(len(reply) >= 12 and reply[2] & 0x80 for reply in told)
    for it in run.exchanges:
        assert not it.answer or any(fits(b"id" + it.answer, query) for query in asked_for if query.facts == it.query)
    answered = [it for it in run.exchanges if it.answered]
    assert sum(len(reply) > 12 or reply[3] & 15 not in (1, 4, 5) for reply in told) <= len(answered)
    if run.end is not End.ABORT:
        assert len(told) >= len(answered)


def tcp_seeds() -> Iterator[bytes]:
    for number, (client, server) in enumerate(_conversations()):
        for ending in (0, 1, 3, number & 7):
            head = shape(b"\1\7\0", is_tight=bool(number & 1), variant=number & 3, ending=ending)
            yield head + len(client).to_bytes(2, "big") + client + server


def _conversations() -> Iterator[tuple[bytes, bytes]]:
    names = ["a.test", "b.test", "full.test"]
    queries = [query_bytes(name, A, EDNS, number=0x100 + n) for n, name in enumerate(names)]
    replies = [answer(asked(name), at("192.0.2.1"), number=n) for n, name in enumerate(names, 1)]
    broken = answer(asked("a.test"), at("192.0.2.1", owner=pointer(99)), number=1)
    denied = query_bytes("deny.test", number=0x200)
    orders = [replies, replies[::-1], replies[1:], [broken, *replies[1:]], [replies[0]] * 2, []]
    orders += [[b"\0\2" + replies[0][2:], *replies], [b"\xee\xee" + replies[0][2:], *replies]]
    for order in orders:
        yield framed(*queries), framed(*order)
        yield framed(queries[0], denied, *queries[1:], denied), framed(*order)
    yield framed(*queries)[:-1], framed(*replies)[:-1]
    yield framed(message(asked() * 2, questions=2), message(asked(group=3)), *queries), framed(*replies)
    yield framed(message(asked(), flags=RESPONSE)), b""
    yield framed(queries[0]) + b"\0\0", framed(replies[0])
    yield framed(queries[0]), b"\0\3abc"
    yield framed(queries[0]), framed(message(b"", number=1, flags=RESPONSE | 1, questions=0))
    yield b"\x16\3\1\2\0", b""
    yield b"", framed(replies[0])
