"""A gRPC client (grpcio) for a pod: `python -P grpc_caller.py ADDRESS CHANNELS [OPTION=NUMBER…]`.

It takes orders from standard input and tells what came of them, a line of JSON each. Bytes are written as Latin-1. The
API is the one that blocks: with `grpc.aio` a call that its server ends while the client is still sending now and then
ends with INTERNAL, whatever the server said.

    {"do": "call", "shape": "unary_unary", "method": "/echo.Echo/Unary", "messages": ["a"], ...}
    {"do": "many", "orders": [...]}                 calls, all at the same time
    {"do": "begin", ...}                            a call of which nothing more is said
    {"do": "open", "method": ...}                   a stream in both directions; then, about it:
    {"do": "talk", "message": "a"} {"do": "hang_up"} {"do": "cancel"}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
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


def messages(order: Order) -> Iterator[bytes]:
    """Those of the order, or without end."""
    yield from map(read, order["messages"])
    while order.get("endless"):
        yield PIECE


class Caller:
    """Has one stream open at a time, and any number of calls."""

    def __init__(self, address: str, channels: int, options: list[tuple[str, int]]) -> None:
        self._channels = [grpc.insecure_channel(address, OPTIONS + options) for _ in range(channels)]
        self._to_say: SimpleQueue[bytes | None] = SimpleQueue()
        self._stream: Any = None

    def obey(self, order: Order) -> Any:
        match order["do"]:
            case "call":
                return self._outcome(self._begin(order), order["shape"])
            case "many":
                calls = [(self._begin(one), one["shape"]) for one in order["orders"]]
                return [self._outcome(*call) for call in calls]
            case "begin":
                self._stream = self._begin(order)
                return None
            case "open":
                self._to_say = SimpleQueue()
                begin = self._channels[0].stream_stream(order["method"])
                self._stream = begin(iter(self._to_say.get, None), metadata=metadata(order))
                return told(self._stream.initial_metadata())
            case "talk":
                self._to_say.put(read(order["message"]))
                return written(next(self._stream))
            case "hang_up":
                self._to_say.put(None)
                return self._outcome(self._stream, "stream_stream")
            case "cancel":
                return self._stream.cancel()
        raise ValueError(order)

    def _begin(self, order: Order) -> Any:
        shape = order["shape"]
        method = getattr(self._channels[order.get("channel", 0)], shape)(order["method"])
        sent = messages(order) if shape.startswith("stream") else read(order["messages"][0])
        begin = method.future if shape.endswith("unary") else method
        return begin(sent, metadata=metadata(order), timeout=order.get("timeout"))

    def _outcome(self, call: Any, shape: str) -> Order:
        answers: list[bytes] = []
        with suppress(grpc.RpcError):  # the status is told
            answers += [call.result()] if shape.endswith("unary") else call
        return {
            "code": call.code().name,
            "details": call.details(),
            "messages": [written(message) for message in answers],
            "initial": told(call.initial_metadata()),
            "trailing": told(call.trailing_metadata()),
        }


def main(address: str, channels: str, *options: str) -> None:
    pairs = [option.split("=") for option in options]
    caller = Caller(address, int(channels), [(name, int(number)) for name, number in pairs])
    for line in sys.stdin:
        print(json.dumps(caller.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
