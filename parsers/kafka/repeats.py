"""One more request like the last one: known by its bytes, so that nothing has to be decided again.

Producers and consumers send the same request over and over, with other records and other positions. What has been
permitted is remembered with the pieces that have to be the same again; whatever lies between them are records or plain
numbers, which name nothing and give the rest of the message no other meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from parsers.facts import KafkaRequest
from parsers.kafka.judging import KafkaRuling
from parsers.kafka.skim import Fetch, Produce, skim_produced
from parsers.kafka.wire import Buffer

_CORRELATION_ID = slice(4, 8)
MAX_PIECES = 64
"""Requests about more partitions are judged anew each time."""

Piece = tuple[int, bytes]
"""Where it stands, counted from the beginning of the request behind its size, and what is there."""


@dataclass(slots=True, eq=False)
class Repeat:
    """A request that was permitted. `size` 0: any; `rest`: from there on there are records of the same topic.

    `session`: where session id and epoch stand that have to be taken out, 0 if nothing has to.
    """

    pieces: tuple[Piece, ...]
    size: int
    rest: int
    session: int
    version: int
    flexible: bool
    wants_answer: bool
    facts: KafkaRequest
    ruling: KafkaRuling

    def is_like(self, data: Buffer, start: int, end: int) -> bool:
        """Is the request `data[start:end]` the same but for records and numbers? Raises ParseError for bad records."""
        if self.size and end - start != self.size:
            return False
        for at, piece in self.pieces:
            begin = start + at
            if data[begin : begin + len(piece)] != piece:
                return False
        if self.rest:
            skim_produced(self.version, data, start + self.rest, end)
        return True


def produce_pieces(data: Buffer, start: int, produce: Produce) -> tuple[Piece, ...]:
    """Key, version and all up to the name of the only topic."""
    whole = bytes(data[start : produce.first])
    return ((0, whole[: _CORRELATION_ID.start]), (_CORRELATION_ID.stop, whole[_CORRELATION_ID.stop :]))


def fetch_pieces(data: Buffer, start: int, end: int, fetch: Fetch) -> tuple[Piece, ...]:
    """All but the numbers of its partitions: offsets, epochs, sizes. Empty if there are too many."""
    if len(fetch.numbers) > MAX_PIECES:
        return ()
    pieces = [(0, bytes(data[start : start + _CORRELATION_ID.start]))]
    begin = start + _CORRELATION_ID.stop
    for first, behind in fetch.numbers:
        pieces.append((begin - start, bytes(data[begin:first])))
        begin = behind
    pieces.append((begin - start, bytes(data[begin:end])))
    return tuple(pieces)
