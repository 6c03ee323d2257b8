"""What one broker asks of another: `python -m tests.acceptance.kafka.peer HOST:PORT`.

Prints the numbers of the requests that are offered, then the error codes of the answers to the state of a share group.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any
from uuid import UUID

from parsers.kafka.codecs import build, decode_response, encode_request_body
from parsers.kafka.refusals import error_codes

API_VERSIONS, READ_SHARE_STATE, READ_SUMMARY = 18, 84, 87
STATE = {"group_id": "peers", "topics": [{"topic_id": UUID(int=7), "partitions": [{"partition": 0}]}]}


def main() -> None:
    host, _, port = sys.argv[1].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        print(*(entry.api_key for entry in asked(peer, API_VERSIONS, 0).api_keys))
        for key in (READ_SHARE_STATE, READ_SUMMARY):
            print(key, *error_codes(asked(peer, key, 0, **STATE)))


def asked(peer: socket.socket, key: int, version: int, **fields: Any) -> Any:
    """The answer, decoded. Headers of flexible versions end with an empty list of tags, but for ApiVersions' answer."""
    is_flexible = key != API_VERSIONS
    body = encode_request_body(build("request", key, version, **fields))
    frame = struct.pack(">hhih", key, version, key, -1) + b"\0" * is_flexible + body
    peer.sendall(struct.pack(">i", len(frame)) + frame)
    (size,) = struct.unpack(">i", received(peer, 4))
    answer = received(peer, size)
    assert answer[:4] == struct.pack(">i", key)
    return decode_response(key, version, answer[4 + is_flexible :])


def received(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise EOFError("the broker has ended the connection")
        data += more
    return data


if __name__ == "__main__":
    main()
