"""Where attacks are aimed that are to pass the proxy by: a server that takes everything and says nothing.

    python -m benchmarks.sink PORT [--bytes N] [--seconds S]

A connection is ended after so many bytes, or so many seconds, about where the proxy ends it: then the attacker has the
same work with both.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
from typing import cast

import uvloop

BACKLOG = 4096


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, bytes_: int | None, seconds: float | None) -> None:
        self._left = bytes_
        self._seconds = seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._seconds is not None:
            asyncio.get_running_loop().call_later(self._seconds, self._transport.close)

    def data_received(self, data: bytes) -> None:
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self._transport.close()


async def _serve(port: int, bytes_: int | None, seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(bytes_, seconds), "0.0.0.0", port, backlog=BACKLOG)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Take bytes and say nothing; part of the benchmark `attacks`.")
    parser.add_argument("port", type=int)
    parser.add_argument("--bytes", type=int)
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve(arguments.port, arguments.bytes, arguments.seconds))


if __name__ == "__main__":
    main()
