"""An HTTP/2 server (python-hyper's h2 on asyncio) for a pod: `python -m tests.lab.h2_origin PORT`.

It answers every request with 200 and its path, and breaks no rule of flow control. Alone it passes all of h2spec.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions

CONFIG = h2.config.H2Configuration(client_side=False, header_encoding=None)


class Server(asyncio.Protocol):
    """One connection. `_bodies` wait for the client's window to open. Once it is over, what still comes is read over:
    a socket that is closed before would answer it with a reset, which overtakes what was sent.
    """

    def __init__(self) -> None:
        self._connection = h2.connection.H2Connection(CONFIG)
        self._paths: dict[int, bytes] = {}
        self._bodies: dict[int, bytes] = {}
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connection.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            for event in self._connection.receive_data(data):
                with suppress(h2.exceptions.ProtocolError):  # its RST_STREAM came right behind the request
                    self._handle(event)
            self._send_bodies()
        except h2.exceptions.ProtocolError:
            self._is_over = True
        self._flush()
        if self._is_over:
            self._transport.write_eof()

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._paths[event.stream_id] = bytes(dict(event.headers)[b":path"])
        elif isinstance(event, h2.events.DataReceived):
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            body = b"you asked for " + self._paths.pop(event.stream_id, b"")
            length = (b"content-length", b"%d" % len(body))
            self._connection.send_headers(event.stream_id, [(b":status", b"200"), length])
            self._bodies[event.stream_id] = body
        elif isinstance(event, h2.events.StreamReset):
            self._paths.pop(event.stream_id, None)
            self._bodies.pop(event.stream_id, None)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._is_over = True

    def _send_bodies(self) -> None:
        for stream, body in list(self._bodies.items()):
            room = min(self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size)
            if room <= 0 and body:
                continue
            rest = body[room:]
            self._connection.send_data(stream, body[:room], end_stream=not rest)
            if rest:
                self._bodies[stream] = rest
            else:
                del self._bodies[stream]

    def _flush(self) -> None:
        self._transport.write(self._connection.data_to_send())


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, ["0.0.0.0", "::"], port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
