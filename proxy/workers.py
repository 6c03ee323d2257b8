"""The worker processes as the agent sees them: start, snapshots, reports, replacement, drain.

The agent owns the listening sockets and passes them on at exec, so a worker that dies takes no listener with it: new
connections wait in the kernel's queue until its successor accepts them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import pickle
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from config.policy.resolved import Snapshot
from proxy.flows import wire
from proxy.supervise import Supervisor
from proxy.worker.control import Deframer, Kind, frame
from proxy.worker.datagrams import LOOPBACK, open_receiver
from proxy.worker.options import WorkerOptions
from proxy.worker.transparent import transparent_socket
from proxy.worker.updates import WorkerChange, WorkerUpdate, change_between, for_workers

log = logging.getLogger(__name__)

LISTEN_BACKLOG = 4096
MAX_BATCH_BYTES = 64 << 20
RESTART_DELAYS_S = (0.0, 0.2, 1.0, 5.0)
"""How long to wait before a worker that died is started again; the last one repeats."""
STABLE_AFTER_S = 30.0


def open_listeners() -> list[socket.socket]:
    """One transparent listener per IP family, bound to loopback: reached by redirection only."""
    listeners = []
    for family, address in LOOPBACK.items():
        sock = transparent_socket(family)
        sock.bind((address, 0))
        sock.listen(LISTEN_BACKLOG)
        listeners.append(sock)
    return listeners


@dataclass(frozen=True, slots=True)
class WorkerMaps:
    """Descriptors of the maps that workers use: `proxy_conns`, `names`, and the lock of the latter."""

    connections: int
    names: int
    names_lock: int


@dataclass(slots=True)
class WorkerProcess:
    """One worker slot. `told` is what its process was sent, `revision` what it has in force (0: not ready)."""

    index: int
    listeners: list[socket.socket]
    receivers: list[socket.socket]
    revision: int = 0
    pid: int = 0
    restarts: int = 0
    channel: _Channel | None = None
    told: Snapshot | None = None
    applied: asyncio.Event = field(default_factory=asyncio.Event)


class WorkerPool:
    """All workers. `on_batch` is called with every report, `on_end` with the index of a worker whose process ended."""

    def __init__(
        self,
        count: int,
        options: WorkerOptions,
        maps: WorkerMaps,
        supervisor: Supervisor,
        on_batch: Callable[[wire.Batch], None],
        on_end: Callable[[int], None],
    ) -> None:
        self.workers = [
            WorkerProcess(index, open_listeners(), [open_receiver(family) for family in LOOPBACK])
            for index in range(count)
        ]
        self.on_batch = on_batch
        self._on_end = on_end
        self._options = options
        self._maps = maps
        self._supervisor = supervisor
        self._snapshot: Snapshot | None = None
        self._stopping = False

    def listeners(self) -> list[tuple[int, int, int, int]]:
        """(worker index, address family, type, file descriptor) of every socket that clients are given to."""
        found = [(w.index, sock) for w in self.workers for sock in (*w.listeners, *w.receivers)]
        return [(index, int(sock.family), int(sock.type), sock.fileno()) for index, sock in found]

    async def start(self, snapshot: Snapshot) -> None:
        """Start all processes and wait until each has put the snapshot in force."""
        self._snapshot = for_workers(snapshot)
        for worker in self.workers:
            self._supervisor.start(f"worker {worker.index}", self._keep_running(worker))
        for worker in self.workers:
            await worker.applied.wait()

    async def apply(self, snapshot: Snapshot, timeout_s: float = 30.0) -> None:
        """Send a snapshot to all workers and wait until it is in force everywhere (or a worker is late: logged)."""
        before, self._snapshot = self._snapshot, for_workers(snapshot)
        change = None
        for worker in self.workers:
            worker.applied.clear()
            if worker.channel is None or worker.told is None:
                continue
            assert worker.told is before
            if change is None:
                change = _message(Kind.CHANGE, change_between(worker.told, self._snapshot))
            worker.channel.send(change)
            worker.told = self._snapshot
        try:
            async with asyncio.timeout(timeout_s):
                for worker in self.workers:
                    await worker.applied.wait()
        except TimeoutError:
            late = [str(w.index) for w in self.workers if w.revision != snapshot.revision]
            log.error("workers %s have not put revision %d in force", ", ".join(late), snapshot.revision)

    def _update(self, worker: WorkerProcess) -> bytes:
        assert self._snapshot is not None
        update = WorkerUpdate(dataclasses.replace(self._options, index=worker.index), self._snapshot)
        return _message(Kind.SNAPSHOT, update)

    async def _keep_running(self, worker: WorkerProcess) -> None:
        failures = 0
        while not self._stopping:
            started = time.monotonic()
            await self._run_once(worker)
            if self._stopping:
                return
            failures = 0 if time.monotonic() - started > STABLE_AFTER_S else failures + 1
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S)) - 1] if failures else 0.0
            worker.restarts += 1
            log.error("worker %d ended by itself; starting it again in %g s", worker.index, delay)
            await asyncio.sleep(delay)

    async def _run_once(self, worker: WorkerProcess) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        maps = self._maps
        inherited = {"--control": theirs.fileno(), "--connections": maps.connections}
        inherited |= {"--names": maps.names, "--names-lock": maps.names_lock}
        numbers = [*inherited.items()]
        numbers += [("--listener", sock.fileno()) for sock in worker.listeners]
        numbers += [("--receiver", sock.fileno()) for sock in worker.receivers]
        arguments = [text for name, fd in numbers for text in (name, str(fd))]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "proxy.worker.main",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[fd for _, fd in numbers],
        )
        theirs.close()
        worker.pid = process.pid
        channel = _Channel(worker, self)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        worker.channel = channel
        try:
            channel.send(self._update(worker))
            worker.told = self._snapshot
            await process.wait()
        finally:
            worker.channel = None
            worker.told = None
            worker.revision = 0
            worker.pid = 0
            channel.close()
            self._on_end(worker.index)
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def stop(self, timeout_s: float) -> None:
        """Drain all workers; those that are not done by the deadline are cut off."""
        self._stopping = True
        channels = [worker.channel for worker in self.workers if worker.channel is not None]
        for channel in channels:
            channel.send(frame(Kind.DRAIN))
        try:
            async with asyncio.timeout(timeout_s):
                for channel in channels:
                    await channel.ended.wait()
        except TimeoutError:
            log.warning("connections were still busy at the drain deadline")

    def close(self) -> None:
        for worker in self.workers:
            for sock in (*worker.listeners, *worker.receivers):
                sock.close()


def _message(kind: Kind, content: WorkerUpdate | WorkerChange) -> bytes:
    return frame(kind, pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))


class _Channel(asyncio.Protocol):
    """The agent's end of a worker's control channel."""

    def __init__(self, worker: WorkerProcess, pool: WorkerPool) -> None:
        self.ended = asyncio.Event()
        self._worker = worker
        self._pool = pool
        self._deframer = Deframer(MAX_BATCH_BYTES)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.write(message)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        for kind, payload in self._deframer.feed(data):
            if kind is Kind.APPLIED:
                self._worker.revision = int.from_bytes(payload, "big")
                self._worker.applied.set()
            elif kind is Kind.BATCH:
                self._pool.on_batch(wire.DECODER.decode(payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ended.set()
