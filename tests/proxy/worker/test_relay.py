"""Bytes from one TCP socket to another by way of a pipe: how many, how it ends, what is held and let go."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from parsers.filters import Way
from proxy.worker.relay import DESCRIPTORS_OF_RELAY, PIPE_BYTES, Pipes, Relay

PATIENCE_S = 20
DATA = random.Random(1).randbytes(3_000_000)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.settimeout(PATIENCE_S)
    ours.setblocking(False)
    return ours, theirs


class Line:
    """sender ─▶ source ═ relay ═▶ sink ─▶ receiver."""

    def __init__(self, count: int, pipes: Pipes | None = None) -> None:
        self.pipes = pipes or Pipes(1)
        self.source, self.sender = connected()
        self.sink, self.receiver = connected()
        self.passed = 0
        self.ended: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        self.relay = Relay(self, Way.FROM_CLIENT, self.pipes, self.source.fileno(), self.sink.fileno(), count)

    def relayed(self, way: Way, count: int) -> None:
        self.passed += count

    def relay_ended(self, way: Way, error: OSError | None) -> None:
        self.relay.stop()
        self.ended.set_result(error)

    async def end(self) -> OSError | None:
        return await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE_S)

    def send(self, data: bytes) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(None, self.sender.sendall, data)

    async def receive(self, count: int) -> bytes:
        def read() -> bytes:
            out = bytearray()
            while len(out) < count and (data := self.receiver.recv(count - len(out))):
                out += data
            return bytes(out)

        return await asyncio.to_thread(read)

    def close(self) -> None:
        for one in (self.source, self.sender, self.sink, self.receiver):
            one.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """In the loop of the workers, and no descriptor is left behind but those of an idle pipe."""

    async def measured() -> None:
        before = len(os.listdir("/proc/self/fd"))
        await test()
        assert len(os.listdir("/proc/self/fd")) <= before + 2

    uvloop.run(measured())


def test_so_many_bytes_and_no_more() -> None:
    async def test() -> None:
        line = Line(len(DATA) - 1000)
        sending = line.send(DATA)
        assert await line.receive(len(DATA) - 1000) == DATA[:-1000]
        await sending
        assert await line.end() is None
        assert (line.passed, line.relay.is_empty) == (len(DATA) - 1000, True)
        assert line.source.recv(2000) == DATA[-1000:]
        line.close()

    run(test)


def test_a_slow_sink_holds_the_source() -> None:
    """No more than a pipe holds is taken beyond what the sink's own buffers take, and all of it arrives."""

    async def test() -> None:
        line = Line(len(DATA))
        line.sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sending = line.send(DATA)
        for _ in range(1000):
            if not line.relay.is_empty:
                break
            await asyncio.sleep(0.01)
        assert line.relay.is_quiet() is False
        taken = line.passed
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert line.passed - taken <= PIPE_BYTES
        assert line.relay.is_quiet() is False, "something waits"
        assert await line.receive(len(DATA)) == DATA
        await sending
        assert await line.end() is None
        line.close()

    run(test)


def test_quiet_once_nothing_has_come() -> None:
    async def test() -> None:
        line = Line(len(DATA))
        await line.send(b"x" * 1000)
        assert await line.receive(1000) == b"x" * 1000
        assert [line.relay.is_quiet() for _ in range(2)] == [False, True]
        await line.send(b"y" * 1000)
        assert await line.receive(1000) == b"y" * 1000
        assert line.relay.is_quiet() is False
        line.relay.stop()
        line.close()

    run(test)


def test_the_end_of_the_source() -> None:
    async def test() -> None:
        line = Line(len(DATA) + 1)
        sending = line.send(DATA)
        assert await line.receive(len(DATA)) == DATA
        await sending
        line.sender.close()
        assert await line.end() is None
        assert line.source.recv(1) == b"", "the transport sees the end itself"
        line.close()

    run(test)


def test_a_reset_source_is_no_end() -> None:
    async def test() -> None:
        line = Line(1 << 20)
        await line.send(b"x")
        assert await line.receive(1) == b"x"
        line.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.sender.close()
        assert isinstance(await line.end(), ConnectionResetError)
        line.close()

    run(test)


def test_a_sink_that_is_gone() -> None:
    """What was in the pipe does not get into the next relay."""

    async def test() -> None:
        pipes = Pipes(1)
        line = Line(1 << 30, pipes)
        line.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.receiver.close()
        await line.send(b"x" * 10_000)
        assert isinstance(await line.end(), (BrokenPipeError, ConnectionResetError))
        assert not line.relay.is_empty
        line.close()
        assert pipes.left == 1
        other = Line(1000, pipes)
        await other.send(b"y" * 1000)
        assert await other.receive(1000) == b"y" * 1000
        assert await other.end() is None
        other.close()

    run(test)


def test_urgent_data_ends_it_without_spinning() -> None:
    """Splice stops in front of it, and the socket stays readable: the transport has to read on."""

    async def test() -> None:
        line = Line(1 << 30)
        await line.send(b"before")
        assert await line.receive(6) == b"before"
        line.sender.send(b"!", socket.MSG_OOB)
        line.sender.send(b"behind")
        assert await line.end() is None
        assert line.source.recv(100) == b"behind"
        line.close()

    run(test)


def test_pipes_are_used_again() -> None:
    async def test() -> None:
        pipes = Pipes(2)
        lines = [Line(1000, pipes), Line(1000, pipes)]
        assert pipes.left == 0
        before = len(os.listdir("/proc/self/fd"))
        for line in lines:
            line.relay.stop()
        assert pipes.left == 2
        assert len(os.listdir("/proc/self/fd")) == before - 2 * (DESCRIPTORS_OF_RELAY - 2)
        again = Line(1000, pipes)
        assert len(os.listdir("/proc/self/fd")) == before - 2 * (DESCRIPTORS_OF_RELAY - 2) + 4 + 2
        again.relay.stop()
        for line in (*lines, again):
            line.close()
        for _ in range(2):
            os.close(pipes.take()[0])

    uvloop.run(test())


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_no_descriptors_left(monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    """Nothing is taken, and all that had been taken is given back."""

    async def test() -> None:
        pipes = Pipes(1)
        (source, sender), (sink, receiver) = connected(), connected()
        before = len(os.listdir("/proc/self/fd"))
        calls = 0

        def scarce(real: Callable[[int], object]) -> Callable[[int], object]:
            def call(argument: int) -> object:
                nonlocal calls
                calls += 1
                if calls == refused:
                    raise OSError(24, "Too many open files")
                return real(argument)

            return call

        monkeypatch.setattr(os, "dup", scarce(os.dup))
        monkeypatch.setattr(os, "pipe2", scarce(os.pipe2))
        with pytest.raises(OSError, match="Too many"):
            Relay(Line.__new__(Line), Way.FROM_CLIENT, pipes, source.fileno(), sink.fileno(), 1000)
        assert pipes.left == 1
        assert len(os.listdir("/proc/self/fd")) == before + (2 if refused > 1 else 0)
        for one in (source, sender, sink, receiver):
            one.close()

    uvloop.run(test())
