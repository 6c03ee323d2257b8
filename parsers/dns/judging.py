"""What passes between whoever carries DNS messages and whoever judges them: rulings, openings, exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from parsers.dns.message import Query
from parsers.facts import DnsQuery


@dataclass(frozen=True, slots=True)
class DnsRuling:
    """What a judge says of a query. `note` is the judge's own, handed through to the exchange record."""

    permit: bool
    note: object = None


class DnsJudge(Protocol):
    """Decides on queries."""

    def rule_dns(self, query: DnsQuery) -> DnsRuling: ...

    def refuse_dns(self, reason: str) -> DnsRuling:
        """The ruling on what no rule gets to see, because there was no room for it."""
        ...


class Opener(Protocol):
    """Opens what an answer tells, before the answer goes on to the client."""

    def open(self, query: Query, answer: bytes) -> bytes:
        """What goes on behind the client's id. Empty: nothing of it must. Raises `DnsError` if it is broken."""
        ...


@dataclass(slots=True, eq=False)
class DnsExchange:
    """One judged query and its answer. Times are the caller's, in ns.

    `answered` 0: there was no answer, and `rcode` (otherwise 0 to 15) is -1. `answer` is the server's message as it
    went on to the client, behind its id; empty where the proxy answered by itself.
    """

    tag: object
    query: DnsQuery
    ruling: DnsRuling
    started: int
    answered: int = 0
    rcode: int = -1
    answer: bytes = b""
