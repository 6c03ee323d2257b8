"""An HTTP/2 client and a server (python-hyper's h2) with a filter between them, in process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from parsers.errors import ParseError
from parsers.facts import HttpRequest
from parsers.filters import End
from parsers.http.judging import Denial, Ruling
from parsers.http2.conversation import Http2Shared
from parsers.http2.filter import Http2Filter
from parsers.limits import Http2Limits

Headers = list[tuple[bytes, bytes]]
Permit = Callable[[HttpRequest], bool]


def unless_denied(request: HttpRequest) -> bool:
    return not request.path.startswith(b"/deny")


@dataclass
class PathJudge:
    """Refuses paths that begin with /deny, unless told otherwise."""

    permit: Permit = unless_denied
    denial: Denial = Denial.ANSWER
    body: bytes = b"Access denied\r\n"
    ruling: Ruling | None = None
    seen: list[HttpRequest] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def rule(self, request: HttpRequest) -> Ruling:
        self.seen.append(request)
        return self.ruling or Ruling(self.permit(request), denial=self.denial, body=self.body)

    def refuse(self, request: HttpRequest, error: ParseError) -> Ruling:
        self.errors.append(error.reason)
        return Ruling(False, status=error.status, body=b"no\r\n")


def request(path: bytes = b"/a", *fields: tuple[bytes, bytes], method: bytes = b"GET") -> Headers:
    return [(b":method", method), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", path), *fields]


GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
OK: Headers = [(b":status", b"200")]


@dataclass
class Seen:
    """What one end was told about one stream."""

    headers: list[Headers] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None


def _lenient(*, client_side: bool) -> h2.config.H2Configuration:
    """One that sends whatever a test wants it to send."""
    return h2.config.H2Configuration(
        client_side=client_side,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )


class Wire:
    """Bytes go from end to end as soon as they are there, in pieces of `step`."""

    def __init__(self, judge: PathJudge | None = None, limits: Http2Limits | None = None, step: int = 1 << 20) -> None:
        self.judge = judge or PathJudge()
        self.shared = Http2Shared(limits or Http2Limits())
        self.filter = Http2Filter(self.judge, self.shared)
        self.step = step
        self.client = h2.connection.H2Connection(_lenient(client_side=True))
        self.server = h2.connection.H2Connection(_lenient(client_side=False))
        self.at_client: dict[int, Seen] = {}
        self.at_server: dict[int, Seen] = {}
        self.to_server = b""
        self.to_client = b""
        self.goaway: int | None = None
        self.now = 1
        self.answers = True
        self.client.initiate_connection()
        self.server.initiate_connection()

    def run(self) -> Wire:
        """Until nobody has anything to say."""
        while self._client_turn() | self._server_turn():
            pass
        return self

    def get(self, *args: bytes | tuple[bytes, bytes]) -> int:
        """A request that ends with its headers; the number of its stream."""
        return self.ask(request(*args))  # type: ignore[arg-type]  # tests know what they pass

    def ask(self, headers: Headers, *, end: bool = True) -> int:
        number = int(self.client.get_next_available_stream_id())
        self.client.send_headers(number, headers, end_stream=end)
        return number

    def raw_from_client(self, data: bytes) -> None:
        for at in range(0, len(data), self.step):
            if self.filter.end is not None:
                return
            out = self.filter.client_data(data[at : at + self.step], self.now)
            self._to_server(out)
            self._take_answer()

    def raw_from_server(self, data: bytes) -> None:
        for at in range(0, len(data), self.step):
            if self.filter.end is not None:
                return
            self._to_client(self.filter.server_data(data[at : at + self.step], self.now))
            self._take_answer()

    def _client_turn(self) -> bool:
        data = self.client.data_to_send()
        self.raw_from_client(data)
        return bool(data)

    def _server_turn(self) -> bool:
        data = self.server.data_to_send()
        self.raw_from_server(data)
        return bool(data)

    def _take_answer(self) -> None:
        answer, self.filter.answer = self.filter.answer, b""
        self._to_client(answer)

    def _to_server(self, data: bytes) -> None:
        self.to_server += data
        for event in self.server.receive_data(data) if data else ():
            self._note(self.at_server, event)
            if isinstance(event, h2.events.StreamEnded) and self.answers:
                with suppress(h2.exceptions.ProtocolError):  # its RST_STREAM came right behind the request
                    self.server.send_headers(event.stream_id, OK)
                    self.server.send_data(event.stream_id, b"ok", end_stream=True)
            elif isinstance(event, h2.events.DataReceived):
                self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _to_client(self, data: bytes) -> None:
        self.to_client += data
        for event in self.client.receive_data(data) if data else ():
            self._note(self.at_client, event)
            if isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = event.error_code
            elif isinstance(event, h2.events.DataReceived):
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _note(self, side: dict[int, Seen], event: h2.events.Event) -> None:
        number = getattr(event, "stream_id", None)
        if not number:
            return
        seen = side.setdefault(number, Seen())
        if isinstance(event, (h2.events.RequestReceived, h2.events.ResponseReceived, h2.events.TrailersReceived)):
            seen.headers.append([(bytes(name), bytes(value)) for name, value in event.headers])
        elif isinstance(event, h2.events.DataReceived):
            seen.body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            seen.ended = True
        elif isinstance(event, h2.events.StreamReset):
            seen.reset = int(event.error_code)

    def status(self, number: int) -> int:
        return int(dict(self.at_client[number].headers[0])[b":status"])

    @property
    def requests(self) -> list[tuple[int, bytes]]:
        """(stream, path) of what the server was asked."""
        return [(number, dict(seen.headers[0])[b":path"]) for number, seen in self.at_server.items() if seen.headers]

    @property
    def statuses(self) -> list[tuple[bytes, int]]:
        return [(exchange.judged.facts.path, exchange.status) for exchange in self.shared.exchanges]

    @property
    def is_over(self) -> bool:
        return self.filter.end is End.CLOSE
