"""How two other parsers frame a stream of requests: h11 and llhttp (httptools), as servers behind us would."""

from __future__ import annotations

from dataclasses import dataclass, field

import h11
import httptools

MAX_HEAD = 65536


@dataclass(frozen=True, slots=True)
class Framed:
    """One whole request as a parser sees it. Trailers are not compared: we leave those of requests out."""

    method: bytes
    target: bytes
    body: bytes


@dataclass(slots=True)
class Reading:
    """The whole requests of a stream, and why the parser would not read on (empty: it would)."""

    requests: list[Framed] = field(default_factory=list)
    error: str = ""


def read_with_h11(data: bytes) -> Reading:
    """Every request is answered at once, as h11 wants it before it reads the next."""
    reading = Reading()
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(data)
    head: h11.Request | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                reading.requests.append(Framed(bytes(head.method), bytes(head.target), body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return reading
                connection.start_next_cycle()
            else:
                return reading
    except h11.RemoteProtocolError as error:
        reading.error = str(error)
        return reading


class _Callbacks:
    def __init__(self) -> None:
        self.requests: list[Framed] = []
        self.parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body = b""

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        self.requests.append(Framed(self.parser.get_method(), self._target, self._body))


def read_with_llhttp(data: bytes) -> Reading:
    callbacks = _Callbacks()
    try:
        callbacks.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return Reading(callbacks.requests, "upgrade")
    except httptools.HttpParserError as error:
        return Reading(callbacks.requests, str(error) or type(error).__name__)
    return Reading(callbacks.requests)
