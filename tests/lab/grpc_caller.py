"""A gRPC client (grpcio) for a pod: `python -P grpc_caller.py ADDRESS CHANNELS [OPTION=NUMBER…]`.

It takes orders from standard input and tells what came of them, a line of JSON each. Bytes are written as Latin-1.

    {"do": "call", "shape": "unary_unary", "method": "/echo.Echo/Unary", "messages": ["a"], ...}
    {"do": "many", "orders": [...]}                 calls, all at the same time
    {"do": "open", "method": ...}                   a stream in both directions; then, about it:
    {"do": "talk", "message": "a"} {"do": "hang_up"} {"do": "cancel"}
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc  # type: ignore[import-untyped]

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # every channel has a connection of its own
]
Order = dict[str, Any]
PIECE = bytes(16384)


def read(text: str) -> bytes:
    return text.encode("latin-1")


def written(data: bytes | str) -> str:
    return data.decode("latin-1") if isinstance(data, bytes) else data


def metadata(order: Order) -> list[tuple[str, bytes | str]]:
    return [(key, read(value) if key.endswith("-bin") else value) for key, value in order.get("metadata", ())]


def told(found: Iterable[tuple[str, bytes | str]] | None) -> list[tuple[str, str]]:
    return [(key, written(value)) for key, value in found or () if key.startswith("x-")]


async def messages(order: Order) -> AsyncIterator[bytes]:
    """Those of the order, or without end."""
    for message in order["messages"]:
        yield read(message)
    while order.get("endless"):
        yield PIECE
        await asyncio.sleep(0)


class Caller:
    def __init__(self, address: str, channels: int, options: list[tuple[str, int]]) -> None:
        self._channels = [grpc.aio.insecure_channel(address, OPTIONS + options) for _ in range(channels)]
        self._stream: Any = None

    async def obey(self, order: Order) -> Any:
        match order["do"]:
            case "call":
                return await self._call(order)
            case "many":
                return await asyncio.gather(*(self._call(one) for one in order["orders"]))
            case "open":
                self._stream = self._channels[0].stream_stream(order["method"])(metadata=metadata(order))
                return told(await self._stream.initial_metadata())
            case "talk":
                await self._stream.write(read(order["message"]))
                return written(await self._stream.read())
            case "hang_up":
                await self._stream.done_writing()
                return await self._outcome(self._stream, [])
            case "cancel":
                return self._stream.cancel()
        raise ValueError(order)

    async def _call(self, order: Order) -> Order:
        """One call from its beginning to its end."""
        shape = order["shape"]
        method = getattr(self._channels[order.get("channel", 0)], shape)(order["method"])
        sent = messages(order) if shape.startswith("stream") else read(order["messages"][0])
        call = method(sent, metadata=metadata(order), timeout=order.get("timeout"))
        answers = []
        try:
            if shape.endswith("unary"):
                answers.append(await call)
            else:
                answers += [message async for message in call]
        except grpc.aio.AioRpcError:
            pass  # its status is told
        return await self._outcome(call, answers)

    async def _outcome(self, call: Any, answers: list[bytes]) -> Order:
        return {
            "code": (await call.code()).name,
            "details": await call.details(),
            "messages": [written(message) for message in answers],
            "initial": told(await call.initial_metadata()),
            "trailing": told(await call.trailing_metadata()),
        }


async def main(address: str, channels: str, *options: str) -> None:
    pairs = [option.split("=") for option in options]
    caller = Caller(address, int(channels), [(name, int(number)) for name, number in pairs])
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await caller.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
