"""Drives a filter in process, as a connection would, and collects what came out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from parsers.facts import HttpRequest
from parsers.filters import End, Way
from parsers.http.judging import Exchange, Ruling
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import HeadMemo, Http1Shared, JudgedHead
from parsers.http1.plain import PlainKey
from tests.parsers.past import pieces

Permit = Callable[[HttpRequest], bool]


class _Forgetful(HeadMemo):
    """A memo that keeps nothing."""

    def keep(self, head: bytes, judged: JudgedHead, key: PlainKey | None) -> None:
        pass


class RecordingJudge:
    """Permits what `permit` says and records what it was asked: every request, or with a memo the new ones only."""

    def __init__(self, permit: Permit, *, memo: bool) -> None:
        self.memo = (HeadMemo if memo else _Forgetful)(looks_at_headers=False)
        self.requests: list[HttpRequest] = []
        self._permit = permit

    def rule(self, request: HttpRequest) -> Ruling:
        self.requests.append(request)
        return Ruling(self._permit(request))


def permit_all(request: HttpRequest) -> bool:
    return True


@dataclass(slots=True)
class Outcome:
    """Everything that left the filter."""

    to_server: bytes = b""
    to_client: bytes = b""
    end: End | None = None
    failure: str = ""
    requests: list[HttpRequest] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    is_idle: bool = False

    @property
    def statuses(self) -> list[tuple[bytes, int]]:
        """(path, status) of each exchange, in the order of the answers to permitted and refused requests."""
        return [(exchange.judged.facts.path, exchange.status) for exchange in self.exchanges]


class Connection:
    """A filter with both of its sides. Once the filter has ended, nothing is fed any more."""

    def __init__(self, permit: Permit = permit_all, *, memo: bool = True) -> None:
        self.judge = RecordingJudge(permit, memo=memo)
        self.shared = Http1Shared()
        self.filter = Http1Filter(self.judge, self.shared)
        self.outcome = Outcome()

    def client(self, data: bytes) -> None:
        if self.filter.end is None:
            self.outcome.to_server += self.filter.client_data(data, 0)
            self._take_answer()

    def server(self, data: bytes) -> None:
        if self.filter.end is None:
            self.outcome.to_client += self.filter.server_data(data, 0)
            self._take_answer()

    def client_past(self, data: bytes) -> None:
        """As `client`, but what needs not be seen goes by."""
        for piece, has_gone_by in pieces(self.filter, Way.FROM_CLIENT, data):
            if has_gone_by:
                self.outcome.to_server += piece
            else:
                self.client(piece)

    def server_past(self, data: bytes) -> None:
        for piece, has_gone_by in pieces(self.filter, Way.FROM_SERVER, data):
            if has_gone_by:
                self.outcome.to_client += piece
            else:
                self.server(piece)

    def client_eof(self) -> None:
        if self.filter.end is None:
            self.filter.client_eof()
            self._take_answer()

    def server_eof(self) -> None:
        if self.filter.end is None:
            self.filter.server_eof()
            self._take_answer()

    def done(self) -> Outcome:
        self.outcome.end = self.filter.end
        self.outcome.failure = self.filter.failure
        self.outcome.requests = self.judge.requests
        self.outcome.exchanges = self.shared.exchanges
        self.outcome.is_idle = self.filter.is_idle
        return self.outcome

    def _take_answer(self) -> None:
        self.outcome.to_client += self.filter.answer
        self.filter.answer = b""


def client_only(parts: Iterable[bytes], permit: Permit = permit_all) -> Outcome:
    """What the server sees of a client that sends `parts` and then no more. `requests` are all of them, in order."""
    connection = Connection(permit, memo=False)
    for part in parts:
        connection.client(part)
    connection.client_eof()
    return connection.done()


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]
