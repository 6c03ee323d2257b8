"""How other implementations understand what a filter has passed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import h11

from parsers.http2 import frames

MANY = {
    h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1 << 20,
    h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20,
}
Headers = list[tuple[bytes, bytes]]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes
    raw: bytes


def split_frames(data: bytes) -> Iterator[Frame]:
    """A filter passes frames on whole or not at all."""
    at = 0
    while at < len(data):
        assert len(data) - at >= frames.HEADER_BYTES, "a frame's header is cut off"
        high, low, kind, flags, stream = frames.HEAD.unpack_from(data, at)
        end = at + frames.HEADER_BYTES + (high << 8 | low)
        assert end <= len(data), "a frame is cut off"
        yield Frame(kind, flags, stream & frames.MAX_STREAM, data[at + frames.HEADER_BYTES : end], data[at:end])
        at = end


def without_credit(data: bytes) -> tuple[bytes, int]:
    """(all frames but WINDOW_UPDATEs of the connection, how much those add): how it is dealt out is free."""
    kept, credit = [], 0
    for frame in split_frames(data):
        if frame.kind == frames.WINDOW_UPDATE and frame.stream == 0:
            credit += int.from_bytes(frame.payload)
        else:
            kept.append(frame.raw)
    return b"".join(kept), credit


@dataclass
class Reading:
    """What h2 was told, and why it would not read on (empty: it would)."""

    requests: dict[int, Headers] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    statuses: dict[int, int] = field(default_factory=dict)
    error: str = ""


def server_side() -> h2.connection.H2Connection:
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.local_settings = h2.settings.Settings(client=False, initial_values=MANY)
    server.initiate_connection()
    return server


def read_as_server(data: bytes) -> Reading:
    """`data`: all that went to the server. GOAWAY is left out: h2 takes nothing behind it."""
    reading, server = Reading(), server_side()
    if len(data) < len(frames.PREFACE):
        assert frames.PREFACE.startswith(data)
        return reading
    assert data.startswith(frames.PREFACE)
    server.receive_data(frames.PREFACE)
    for frame in split_frames(data[len(frames.PREFACE) :]):
        if frame.kind == frames.GOAWAY:
            continue
        try:
            events = server.receive_data(frame.raw)
        except h2.exceptions.ProtocolError as error:
            reading.error = why_refused(error, frame)
            return reading
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                assert event.stream_id not in reading.requests
                reading.requests[event.stream_id] = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h2.events.StreamEnded):
                reading.ended.add(event.stream_id)
            assert not isinstance(event, h2.events.TrailersReceived), "trailers of requests are left out"
    return reading


def why_refused(error: h2.exceptions.ProtocolError, frame: Frame) -> str:
    """Why h2 may refuse a frame that was passed on purpose. Raises the error if there is no reason."""
    if isinstance(error, h2.exceptions.FlowControlError):
        return "flow control is between the two ends"
    if frame.kind == frames.WINDOW_UPDATE and frame.payload[0] & 0x80:
        return "h2 takes the reserved bit of a WINDOW_UPDATE for a part of its number"
    if "mismatched :authority and" in str(error):
        return "h2 minds upper and lower case of hosts"
    raise error


def read_as_client(client: h2.connection.H2Connection, data: bytes) -> Reading:
    """`client` has sent its requests; `data` is all that it gets."""
    reading = Reading()
    for frame in split_frames(data):
        if frame.kind == frames.GOAWAY:
            continue
        try:
            events = client.receive_data(frame.raw)
        except h2.exceptions.ProtocolError as error:
            reading.error = f"{type(error).__name__}: {error}"
            return reading
        for event in events:
            if isinstance(event, h2.events.ResponseReceived):
                headers = dict(event.headers)
                reading.statuses[event.stream_id] = int(headers[b":status"])
    return reading


def trailers(data: bytes) -> list[tuple[bytes, bytes]]:
    """Those of all requests that h11 finds in the bytes for a server of HTTP/1."""
    connection, found = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 16), []
    connection.receive_data(data)
    try:
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.EndOfMessage):
                found += [(bytes(name), bytes(value)) for name, value in event.headers]
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    break
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError:
        pass
    return found
