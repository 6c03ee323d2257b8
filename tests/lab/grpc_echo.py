"""A gRPC server (grpcio) for a pod: `python -P grpc_echo.py PORT`. Messages are bytes, no protocol buffers.

The service `echo.Echo` has a method of each shape, and some that fail or wait. `echo.Secret` has the same, for nobody.
What a test may want to know of calls stands in the log.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc  # type: ignore[import-untyped]

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Clients may ping as often as they like.
    ("grpc.http2.min_ping_interval_without_data_ms", 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
]
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Service:
    """The methods of one service. All answer with the caller's own metadata."""

    def __init__(self, name: str) -> None:
        self.name = name

    def handler(self) -> Any:
        return grpc.method_handlers_generic_handler(
            self.name,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
                "Split": grpc.unary_stream_rpc_method_handler(self.split),
                "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
                "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
                "Deadline": grpc.unary_unary_rpc_method_handler(self.deadline),
                "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            },
        )

    def log(self, *words: object) -> None:
        print(self.name, *words, flush=True)

    async def unary(self, request: bytes, context: Any) -> bytes:
        await self._begin(context)
        return request

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await self._begin(context)
        return b"".join([request async for request in requests])

    async def split(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._begin(context)
        for word in request.split():
            yield word

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await self._begin(context)
        async for request in requests:
            yield request
        self.log("Chat ended")

    async def fail(self, request: bytes, context: Any) -> bytes:
        """With the status and the message that the request asks for."""
        await self._begin(context)
        told = json.loads(request)
        await context.abort(CODES[told["code"]], told["details"], context.trailing_metadata())
        raise AssertionError("not reached")

    async def deadline(self, request: bytes, context: Any) -> bytes:
        """How many seconds the client gives."""
        return str(context.time_remaining()).encode()

    async def wait(self, request: bytes, context: Any) -> bytes:
        """For ever."""
        self.log("Wait", request.decode())
        try:
            return await asyncio.Future[bytes]()
        except asyncio.CancelledError:
            self.log("Wait cancelled", request.decode())
            raise

    async def _begin(self, context: Any) -> None:
        """Metadata of the call go back, before the answer and behind it."""
        if self.name != "echo.Echo":
            self.log("called")
        own = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        await context.send_initial_metadata(own)
        context.set_trailing_metadata([(key.replace("x-", "x-last-", 1), value) for key, value in own])


async def main(port: int) -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers([Service(name).handler() for name in ("echo.Echo", "echo.Secret")])
    server.add_insecure_port(f"[::]:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
