"""What passes between the filter and whoever judges: rulings, judged heads, exchanges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from parsers.facts import HeaderEdit, HttpRequest
from parsers.http1.edits import edited_head
from parsers.http1.refusal import refusal_response
from parsers.http1.request import RequestHead
from parsers.http1.response import ResponseHead
from parsers.limits import Http1Limits


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a judge says of a request. `note` is the judge's own, handed through to the exchange record.

    `edits` are made, in their order, in the headers of a request that is permitted.
    """

    permit: bool
    note: object = None
    status: int = 403
    body: bytes = b"Access denied\r\n"
    edits: tuple[HeaderEdit, ...] = ()


class Judged:
    """A request head with its ruling: what the memo holds and what exchange records refer to."""

    __slots__ = ("forward", "head", "is_head", "is_plain", "ruling")

    def __init__(self, head: RequestHead, raw: bytes, ruling: Ruling) -> None:
        self.head = head
        self.ruling = ruling
        forward = raw if head.forward is None else head.forward
        self.forward = edited_head(forward, ruling.edits) if ruling.edits else forward
        self.is_head = head.facts.method == b"HEAD"
        self.is_plain = (
            ruling.permit
            and self.forward is raw
            and head.length == 0
            and not (head.close or head.expects_continue or head.upgrade)
        )
        """Goes on as it came, has no body, and another request may follow."""

    def refusal(self, *, close: bool) -> bytes:
        """The answer to this request if its ruling is no."""
        return refusal_response(self.ruling.status, self.ruling.body, is_head=self.is_head, close=close)


class Judge(Protocol):
    """Decides on requests. `memo` (head → judged) belongs to one state of the policy; the filter bounds it."""

    @property
    def memo(self) -> dict[bytes, Judged]: ...

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


@dataclass(slots=True)
class Http1Shared:
    """What all filters of a worker share: limits, known response heads, and the list where exchanges go."""

    limits: Http1Limits = field(default_factory=Http1Limits)
    exchanges: list[Exchange] = field(default_factory=list)
    response_heads: dict[bytes, ResponseHead] = field(default_factory=dict)
