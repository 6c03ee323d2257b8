"""Bytes that no filter has to see pass from one socket to the other within the kernel, by way of a pipe.

    source ──▶ pipe ──▶ sink

Nothing is copied (splice(2)): of a large body or answer this costs about half of what reading and writing it does, and
the other end reads what the sender has just written, not a copy that another processor has made. For as long as a relay
runs, the transport of its source is on hold and that of its sink has nothing to write.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import ExitStack
from typing import Protocol

from parsers.filters import Way

PIPE_BYTES = 256 * 1024
"""What a pipe holds, and so what waits in a relay whose sink is slow."""

RELAYED_FROM = 128 * 1024
"""Fewer bytes are not worth the work of setting a relay up."""

DESCRIPTORS_OF_RELAY = 4
"""Two of its pipe, two of its own for the sockets."""

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

Pipe = tuple[int, int]
"""Where it is read, where it is written."""


class Pipes:
    """Of one worker: at most `limit` are in use at a time. Empty ones are kept for the next relay."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self._free: list[Pipe] = []

    def take(self) -> Pipe:
        """Raises OSError if there are no descriptors left."""
        assert self.left
        pipe = self._free.pop() if self._free else _pipe()
        self.left -= 1
        return pipe

    def give_back(self, pipe: Pipe, *, is_empty: bool) -> None:
        self.left += 1
        if is_empty:
            self._free.append(pipe)
        else:
            _close(*pipe)


class Relayed(Protocol):
    """Whose bytes they are."""

    def relayed(self, way: Way, count: int) -> None:
        """The source has given `count` more bytes; 0: the sink has taken some that waited."""
        ...

    def relay_ended(self, way: Way, error: OSError | None) -> None:
        """All has passed, or the source has no more to give (its transport learns why), or a socket has failed."""
        ...


class Relay:
    """`left` bytes from one socket to another. It has descriptors of its own, which `stop` closes."""

    def __init__(self, owner: Relayed, way: Way, pipes: Pipes, source: int, sink: int, left: int) -> None:
        """Raises OSError if there are no descriptors left."""
        self._owner = owner
        self._way = way
        self._pipes = pipes
        self._left = left
        self._waiting = 0
        self._moved = True
        self._loop = asyncio.get_running_loop()
        with ExitStack() as undo:
            self._out, self._in = pipe = pipes.take()
            undo.callback(pipes.give_back, pipe, is_empty=True)
            self._source = os.dup(source)
            undo.callback(os.close, self._source)
            self._sink = os.dup(sink)
            undo.pop_all()
        self._loop.add_reader(self._source, self._read)

    @property
    def is_empty(self) -> bool:
        """Nothing waits for the sink."""
        return not self._waiting

    def is_quiet(self) -> bool:
        """Has nothing happened since this was asked before, and does nothing wait?"""
        is_quiet = not (self._moved or self._waiting)
        self._moved = False
        return is_quiet

    def _read(self) -> None:
        try:
            count = os.splice(self._source, self._in, min(self._left, PIPE_BYTES), flags=_FLAGS)
        except BlockingIOError:
            count = 0  # readable, yet not by splice: it stops at urgent data, which a transport reads over
        except OSError as error:
            self._owner.relay_ended(self._way, error)
            return
        if not count:
            self._owner.relay_ended(self._way, None)
            return
        self._moved = True
        self._left -= count
        self._waiting = count
        self._owner.relayed(self._way, count)
        if not self._write():
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._written)

    def _write(self) -> bool:
        """Has the sink taken all? Also when the relay has ended."""
        try:
            while self._waiting:
                self._waiting -= os.splice(self._out, self._sink, self._waiting, flags=_FLAGS)
        except BlockingIOError:
            return False
        except OSError as error:
            self._owner.relay_ended(self._way, error)
            return True
        if not self._left:
            self._owner.relay_ended(self._way, None)
        return True

    def _written(self) -> None:
        self._owner.relayed(self._way, 0)
        if self._write() and self._left and not self._waiting:
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._read)

    def stop(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)
        _close(self._source, self._sink)
        self._pipes.give_back((self._out, self._in), is_empty=self.is_empty)


def _pipe() -> Pipe:
    pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        _close(*pipe)
        raise
    return pipe


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
