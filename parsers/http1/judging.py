"""What HTTP/1 filters remember: judged heads, in the memo of their judge, and response heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from parsers.http.judging import Exchange, Judge, Judged, Ruling
from parsers.http1.edits import edited_head
from parsers.http1.refusal import refusal_response
from parsers.http1.request import RequestHead
from parsers.http1.response import ResponseHead
from parsers.limits import Http1Limits


class JudgedHead(Judged):
    """A request head with its ruling: what the memo holds."""

    __slots__ = ("forward", "head", "is_head", "is_plain")

    def __init__(self, head: RequestHead, raw: bytes, ruling: Ruling) -> None:
        super().__init__(head.facts, head.version, ruling)
        self.head = head
        forward = raw if head.forward is None else head.forward
        self.forward = edited_head(forward, ruling.edits) if ruling.edits else forward
        self.is_head = head.facts.method == b"HEAD"
        self.is_plain = (
            ruling.permit
            and self.forward is raw
            and head.length == 0
            and not (head.close or head.expects_continue or head.opens_tunnel)
        )
        """Goes on as it came, has no body, and another request may follow."""

    def refusal(self, *, close: bool) -> bytes:
        """The answer to this request if its ruling is no."""
        ruling = self.ruling
        return refusal_response(ruling.status, ruling.body, is_head=self.is_head, close=close, told=ruling.told)


class Http1Judge(Judge, Protocol):
    """`memo` (head → judged) belongs to one state of the policy; the filter bounds it."""

    @property
    def memo(self) -> dict[bytes, JudgedHead]: ...


@dataclass(slots=True)
class Http1Shared:
    """What all filters of a worker share: limits, known response heads, and the list where exchanges go."""

    limits: Http1Limits = field(default_factory=Http1Limits)
    exchanges: list[Exchange] = field(default_factory=list)
    response_heads: dict[bytes, ResponseHead] = field(default_factory=dict)
