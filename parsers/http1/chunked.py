"""Chunked bodies as they stream by (RFC 9112 §7.1).

Chunks go on verbatim. Extensions are checked and left out: no recipient needs them, and parsers that disagree
about where they end can be split (CVE-2023-39326). Trailers of requests are left out as well: a server that merges
them into the headers would see what no rule has judged (RFC 9110 §6.5.1).
"""

from __future__ import annotations

import re
from enum import Enum

from parsers.errors import ParseError
from parsers.http1 import grammar
from parsers.limits import Http1Limits

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_EXTENSION = rb"(?:;" + grammar.TOKEN + rb"++(?:=(?:" + grammar.TOKEN + rb"++|" + _QUOTED + rb"))?)"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(" + _EXTENSION + rb"*+)\r\n")
_FORBIDDEN_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"trailer"))


class _State(Enum):
    SIZE = "size"
    DATA = "data"
    DATA_END = "data end"
    TRAILERS = "trailers"
    DONE = "done"


class ChunkedBody:
    """One chunked body. `feed` takes bytes as they arrive and says how many belong to it and what goes on."""

    __slots__ = ("_extension_bytes", "_keep_trailers", "_left", "_limits", "_line", "_state")

    def __init__(self, limits: Http1Limits, *, keep_trailers: bool) -> None:
        self._limits = limits
        self._keep_trailers = keep_trailers
        self._state = _State.SIZE
        self._left = 0
        self._line = b""
        self._extension_bytes = 0

    @property
    def is_done(self) -> bool:
        return self._state is _State.DONE

    @property
    def unread(self) -> int:
        """Bytes that are left of the chunk that has begun."""
        return self._left if self._state is _State.DATA else 0

    def passed(self, count: int) -> None:
        """Fewer than `unread` bytes have gone on without `feed`."""
        self._left -= count

    def feed(self, data: bytes, start: int) -> tuple[int, bytes]:
        """(index in `data` behind what belongs to the body, bytes to forward). Raises ParseError."""
        out: list[bytes] = []
        at = start
        while at < len(data) and self._state is not _State.DONE:
            if self._state is _State.DATA:
                end = min(at + self._left, len(data))
                out.append(data[at:end])
                self._left -= end - at
                at = end
                if self._left == 0:
                    self._state = _State.DATA_END
            elif self._state is _State.TRAILERS:
                at = self._trailers(data, at, out)
            else:
                at = self._short_line(data, at, out)
        return at, b"".join(out)

    def _short_line(self, data: bytes, at: int, out: list[bytes]) -> int:
        """A size line, or the CRLF behind a chunk; either may arrive in pieces."""
        end = data.find(b"\n", at)
        piece = data[at:] if end < 0 else data[at : end + 1]
        line = self._line + piece
        if len(line) > self._limits.chunk_line_bytes:
            raise ParseError("a chunk's size line is too long", limit="chunk_line_bytes")
        if end < 0:
            self._check_unfinished(line)
            self._line = line
            return len(data)
        self._line = b""
        if self._state is _State.DATA_END:
            if line != b"\r\n":
                raise ParseError("a chunk is longer than its size")
            out.append(line)
            self._state = _State.SIZE
        else:
            self._size(line, out)
        return end + 1

    def _check_unfinished(self, line: bytes) -> None:
        if self._state is _State.DATA_END and line != b"\r":
            raise ParseError("a chunk is longer than its size")

    def _size(self, line: bytes, out: list[bytes]) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ParseError("a chunk's size line is malformed")
        digits, extensions = match.groups()
        self._extension_bytes += len(extensions)
        if self._extension_bytes > self._limits.chunk_extension_bytes:
            raise ParseError("the chunks have too many extensions", limit="chunk_extension_bytes")
        self._left = int(digits, 16)
        if self._left == 0:
            self._state = _State.TRAILERS
            out.append(b"0\r\n")
        else:
            self._state = _State.DATA
            out.append(digits + b"\r\n" if extensions else line)

    def _trailers(self, data: bytes, at: int, out: list[bytes]) -> int:
        """The trailer section up to its empty line, held back until it is whole (it is small)."""
        held = len(self._line)
        section = self._line + data[at : at + self._limits.trailer_bytes + 4 - held]
        end = 2 if section.startswith(b"\r\n") else section.find(b"\r\n\r\n") + 4
        if end < 4 and not section.startswith(b"\r\n"):
            if len(section) >= self._limits.trailer_bytes + 4:
                raise ParseError("the trailers are too large", limit="trailer_bytes")
            if grammar.BARE_LF.search(section):
                raise ParseError("a trailer does not end in CRLF")
            self._line = section
            return len(data)
        fields = section[: end - 2]
        if grammar.TRAILERS.fullmatch(fields) is None:
            raise ParseError("the trailers are malformed")
        if any(name in _FORBIDDEN_TRAILERS for name, _ in grammar.fields_of(fields)):
            raise ParseError("a trailer frames the message")
        out.append(fields + b"\r\n" if self._keep_trailers else b"\r\n")
        self._line = b""
        self._state = _State.DONE
        return at + end - held
