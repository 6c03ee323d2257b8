"""The header of a request (versions 1 and 2): which request it is, and whose."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from parsers.errors import ParseError
from parsers.kafka.apis import APIS
from parsers.kafka.wire import Buffer, Reader, text

_FIXED = Struct(">hhih")
SMALLEST = _FIXED.size
"""Key, version, correlation id and the length of the client id."""

API_VERSIONS = 18


@dataclass(slots=True, eq=False)
class RequestHeader:
    """`body` is the position behind it; `flexible`: the body has compact lengths and tagged fields (KIP-482)."""

    key: int
    version: int
    correlation_id: int
    client_id: str
    body: int
    flexible: bool


def read_header(data: Buffer, start: int, end: int) -> RequestHeader:
    """The header that begins at `start`; its message ends at `end`. No unknown request gets further than this."""
    if end - start < SMALLEST:
        raise ParseError("a request is shorter than its header")
    key, version, correlation_id, length = _FIXED.unpack_from(data, start)
    api = APIS.get(key)
    if api is None:
        raise ParseError(f"request {key} is not known")
    if version > api.highest and key == API_VERSIONS:
        # It gets its answer from us, and nobody knows what follows.
        return RequestHeader(key, version, correlation_id, "", end, True)
    if not api.lowest <= version <= api.highest:
        raise ParseError(f"{api.name} has no version {version} here ({api.lowest} to {api.highest})")
    position = start + SMALLEST
    client_id = ""
    if length > 0:
        if length > end - position:
            raise ParseError("the client id runs over the end of its request")
        client_id = text(bytes(data[position : position + length]))
        position += length
    elif length < -1:
        raise ParseError("the length of the client id is negative")
    flexible = version >= api.flexible
    if flexible:
        if position < end and not data[position]:
            position += 1
        else:
            reader = Reader(data, position, end)
            reader.skip_tags()
            position = reader.position
    return RequestHeader(key, version, correlation_id, client_id, position, flexible)
