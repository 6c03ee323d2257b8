"""A filter between two transcripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from parsers.dns.answer import read_answer
from parsers.dns.filter import DnsFilter, DnsShared
from parsers.dns.judging import DnsExchange, DnsRuling
from parsers.dns.message import Query
from parsers.facts import DnsQuery
from parsers.limits import DnsLimits

REFUSED = 5


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def messages(stream: bytes) -> Iterator[bytes]:
    """The stream has to end with one."""
    at = 0
    while at < len(stream):
        size = int.from_bytes(stream[at : at + 2], "big")
        assert at + 2 + size <= len(stream), "a message is not whole"
        yield stream[at + 2 : at + 2 + size]
        at += 2 + size


@dataclass
class Judge:
    """Refuses what begins with `deny`."""

    seen: list[DnsQuery] = field(default_factory=list)

    def rule_dns(self, query: DnsQuery) -> DnsRuling:
        self.seen.append(query)
        return DnsRuling(not query.name.startswith("deny"), "the rules")

    def refuse_dns(self, reason: str) -> DnsRuling:
        return DnsRuling(False, reason)


@dataclass
class Opener:
    """Takes no answer for names that begin with `full`."""

    opened: list[tuple[str, tuple[bytes, ...]]] = field(default_factory=list)

    def open(self, query: Query, answer: bytes) -> bytes:
        self.opened.append((query.facts.name, read_answer(answer, query).addresses))
        return b"" if query.facts.name.startswith("full") else answer[2:]


class Wire:
    def __init__(self, limits: DnsLimits | None = None) -> None:
        self.judge = Judge()
        self.opener = Opener()
        self.exchanges: list[DnsExchange] = []
        self.shared = DnsShared(limits or DnsLimits(), REFUSED, self.exchanges)
        self.filter = DnsFilter(self.shared, self.judge, self.opener, "the tag")
        self.to_server = b""
        self.to_client = b""

    def client(self, *data: bytes, step: int = 1 << 20, now: int = 100) -> Wire:
        stream = b"".join(data)
        for at in range(0, len(stream), step):
            self.to_server += self.filter.client_data(stream[at : at + step], now)
            self.take()
        return self

    def server(self, *data: bytes, step: int = 1 << 20, now: int = 200) -> Wire:
        stream = b"".join(data)
        for at in range(0, len(stream), step):
            self.to_client += self.filter.server_data(stream[at : at + step], now)
            self.take()
        return self

    def expire(self, now: int) -> Wire:
        self.filter.expire(now)
        self.take()
        return self

    def take(self) -> None:
        self.to_client += self.filter.answer
        self.filter.answer = b""

    @property
    def asked(self) -> list[bytes]:
        """What has got to the server."""
        return list(messages(self.to_server))

    @property
    def told(self) -> list[bytes]:
        """What has got to the client."""
        return list(messages(self.to_client))
