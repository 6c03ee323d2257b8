"""What passes between the filters and whoever judges: rulings, judged requests, exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from parsers.facts import HeaderEdit, HttpRequest


class Denial(Enum):
    """What a client gets for a refused request: an answer, the end of it by reset, or nothing at all."""

    ANSWER = "403"
    RESET = "reset"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a judge says of a request. `note` is the judge's own, handed through to the exchange record.

    `edits` are made, in their order, in the headers of a request that is permitted. `told`: why not, for a header of
    the refusal; empty, as a rule, because that is nothing for whoever asks.
    """

    permit: bool
    note: object = None
    status: int = 403
    body: bytes = b"Access denied\r\n"
    edits: tuple[HeaderEdit, ...] = ()
    denial: Denial = Denial.ANSWER
    told: bytes = b""


class Judged:
    """A request with its ruling: what exchange records refer to."""

    __slots__ = ("facts", "ruling", "version")

    def __init__(self, facts: HttpRequest, version: str, ruling: Ruling) -> None:
        self.facts = facts
        self.version = version
        self.ruling = ruling


class Judge(Protocol):
    """Decides on requests."""

    def rule(self, request: HttpRequest) -> Ruling: ...


class Exchange:
    """One judged request and the status of its answer (0: none came). Times are the caller's, in ns."""

    __slots__ = ("answered", "judged", "started", "status", "tag")

    def __init__(self, tag: object, judged: Judged, started: int, answered: int, status: int) -> None:
        self.tag = tag
        self.judged = judged
        self.started = started
        self.answered = answered
        self.status = status
