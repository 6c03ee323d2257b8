"""A judge for all filters, and the limits that inputs may choose."""

from __future__ import annotations

from collections.abc import Callable

from parsers.errors import ParseError
from parsers.facts import ClientHello, EditKind, HeaderEdit, HttpRequest
from parsers.http.judging import Denial, Ruling
from parsers.http.target import canonical_path
from parsers.http1.judging import HeadMemo, JudgedHead
from parsers.http1.plain import PlainKey
from parsers.limits import Http1Limits, Http2Limits
from parsers.tls.client_hello import TlsLimits
from parsers.tls.filter import NameRuling

HTTP1_LIMITS = Http1Limits()
HTTP1_TIGHT = Http1Limits(
    head_bytes=256,
    request_line_bytes=96,
    header_count=8,
    chunk_line_bytes=40,
    chunk_extension_bytes=48,
    trailer_bytes=64,
    pipelined_requests=4,
    informational_responses=2,
    discarded_body_bytes=64,
    memo_entries=2,
    memo_head_bytes=128,
)
HTTP2_LIMITS = Http2Limits(continuation_frames=63)
"""h2 takes 64 frames for a block, HEADERS and all."""

HTTP2_TIGHT = Http2Limits(
    concurrent_streams=4,
    header_block_bytes=512,
    continuation_frames=3,
    header_list_bytes=1024,
    header_count=8,
    control_frames=40,
    reset_streams=4,
    informational_responses=2,
    waiting_answer_bytes=512,
    body_credit=64,
    ended_streams=4,
    memo_entries=2,
    memo_block_bytes=64,
)
TLS_LIMITS = TlsLimits()
TLS_TIGHT = TlsLimits(hello_bytes=256, record_count=4)

DENIALS = (Denial.ANSWER, Denial.RESET, Denial.DROP, Denial.ANSWER)
EDITS = (HeaderEdit(EditKind.SET, b"x-token", b"secret"), HeaderEdit(EditKind.REMOVE, b"x-bad"))


Permit = Callable[[HttpRequest], bool]


def permits(request: HttpRequest) -> bool:
    return not (request.path.startswith(b"/deny") or request.host.startswith(b"deny"))


def permits_no_tunnel(request: HttpRequest) -> bool:
    """h11 reads nothing behind CONNECT."""
    return permits(request) and request.method != b"CONNECT"


class Judge:
    """Refuses paths that begin with /deny and hosts with deny, in the way that `variant` chooses; from 4 on what it
    permits is edited."""

    def __init__(self, variant: int = 0, permit: Permit = permits) -> None:
        self.seen: list[HttpRequest] = []
        self.names: list[str] = []
        self._permit = permit
        self.denial = DENIALS[variant & 3]
        self.edits = EDITS if variant & 4 else ()
        self.memo = HeadMemo(looks_at_headers=bool(self.edits))

    def rule(self, request: HttpRequest) -> Ruling:
        assert request.path in (b"", b"*") or canonical_path(request.path) == request.path, request
        self.seen.append(request)
        if self._permit(request):
            return Ruling(True, edits=self.edits)
        return Ruling(False, denial=self.denial)

    def refuse(self, request: HttpRequest, error: ParseError) -> Ruling:
        return Ruling(False, status=error.status, body=b"no\r\n")

    def rule_name(self, hello: ClientHello) -> NameRuling:
        self.names.append(hello.server_name)
        return NameRuling(not hello.server_name.startswith("deny"), reason="no")


class Forgetful(HeadMemo):
    """A memo that keeps nothing."""

    def keep(self, head: bytes, judged: JudgedHead, key: PlainKey | None) -> None:
        pass
