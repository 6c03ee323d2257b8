"""Questions on their way to a server, each with an id of its own and from a port that is soon another (RFC 5452).

A socket is used for a moment, or while it is busy for some hundred questions; then the next ones get a new one, with a
port of the kernel's choice. What arrives that answers nothing was sent by somebody who guesses: after a few of those
the socket is given up, and whoever waits for an answer is told to ask again over TCP, where nobody can guess.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EAGAIN, EBADF, ECONNREFUSED
from socket import socket
from struct import Struct
from typing import TYPE_CHECKING, Final

from proxy.worker.bursts import FEW, MAX_BYTES, MOST, Burst, Pace
from proxy.worker.datagrams import Address, connect

if TYPE_CHECKING:
    from proxy.worker.dns_proxy import Asked

MAX_USES: Final = 512
MAX_IDS: Final = 8 * MAX_USES
"""Where there can be no more sockets."""

MAX_AGE_NS: Final = 100_000_000
MAX_MISMATCHES: Final = 8
MAX_ANSWER: Final = 65535
MAX_SOCKETS: Final = 1024
"""Of one worker, those included that only wait."""

MAX_SOCKETS_PER_CLIENT: Final = 128
"""Nobody who asks silent servers by the hundred takes the sockets from others."""

_NUMBERS: Final = Struct("2s" * 512)
_CLOSED: Final = -1


@dataclass(slots=True, eq=False)
class UpstreamSocket:
    """One socket to one server, and who waits there by the id of the question. `ids`: all that it has ever had.

    `until`: it takes new questions, monotonic ns. `unsent`: what goes with the next `SocketPool.flush`.
    """

    sock: socket
    client: str
    until: int
    mismatches: int = 0
    waiting: dict[bytes, Asked] = field(default_factory=dict)
    ids: set[bytes] = field(default_factory=set)
    unsent: list[tuple[Asked, bytes]] = field(default_factory=list)

    def may_take_more(self, now: int) -> bool:
        return now <= self.until and len(self.ids) < MAX_USES


class Upstreams:
    """The sockets from one client's address to one server."""

    def __init__(self, client: str, server: Address, pool: SocketPool) -> None:
        self._client = client
        self._server = server
        self._pool = pool
        self._current: UpstreamSocket | None = None

    def ask(self, asked: Asked, message: bytes, now: int) -> bool:
        """Send a client's message with an id of ours. False: there is no way to the server."""
        current = self._current
        if current is None or not current.may_take_more(now):
            current = self._renew(now)
            if current is None:
                return False
        number = self._pool.new_id(current.ids)
        current.ids.add(number)
        current.waiting[number] = asked
        asked.upstream, asked.number = current, number
        self._pool.send(asked, message)
        return True

    def _renew(self, now: int) -> UpstreamSocket | None:
        previous, self._current = self._current, None
        if previous is not None and not previous.waiting:
            self._pool.close(previous)
        if not self._pool.has_room(self._client):
            if previous is None or not previous.waiting or len(previous.ids) >= MAX_IDS:
                return None
            self._current = previous
            return previous
        try:
            sock = connect(self._client, self._server)
        except OSError:
            return None
        self._current = self._pool.add(UpstreamSocket(sock, self._client, now + MAX_AGE_NS), self)
        return self._current

    def uses(self, upstream: UpstreamSocket) -> bool:
        """May there be another question on this socket?"""
        return self._current is upstream

    def let_go(self, upstream: UpstreamSocket) -> None:
        """It is closed now."""
        if self._current is upstream:
            self._current = None

    def close(self) -> None:
        """Take no more questions. Whoever waits is still answered."""
        previous, self._current = self._current, None
        if previous is not None and not previous.waiting:
            self._pool.close(previous)


class SocketPool:
    """All sockets to servers of one worker, and what arrives on them."""

    def __init__(
        self,
        on_answer: Callable[[UpstreamSocket, bytes], bool],
        on_failure: Callable[[Asked], None],
        on_guesses: Callable[[Asked], None],
        on_read: Callable[[], None],
        pace: Pace,
    ) -> None:
        """`on_answer`: False if it answers nothing that waits there. `on_failure`: the server can not be reached.
        `on_guesses`: somebody guesses, this one must ask in another way. `on_read`: that was all for now.
        """
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._on_guesses = on_guesses
        self._on_read = on_read
        self._pace = pace
        self._unsent: list[UpstreamSocket] = []
        self._burst = Burst()
        self._sockets: dict[UpstreamSocket, Upstreams] = {}
        self._per_client: Counter[str] = Counter()
        self._numbers: list[bytes] = []

    def new_id(self, taken: set[bytes]) -> bytes:
        """Two bytes that nobody can foretell, and that no other question of the socket has had."""
        while True:
            if not self._numbers:
                self._numbers = list(_NUMBERS.unpack(os.urandom(_NUMBERS.size)))
            number = self._numbers.pop()
            if number not in taken:
                return number

    def has_room(self, client: str) -> bool:
        return len(self._sockets) < MAX_SOCKETS and self._per_client[client] < MAX_SOCKETS_PER_CLIENT

    def add(self, upstream: UpstreamSocket, owner: Upstreams) -> UpstreamSocket:
        self._sockets[upstream] = owner
        self._per_client[upstream.client] += 1
        asyncio.get_running_loop().add_reader(upstream.sock.fileno(), self._read, upstream)
        return upstream

    def close(self, upstream: UpstreamSocket) -> None:
        if self._sockets.pop(upstream, None) is not None:
            asyncio.get_running_loop().remove_reader(upstream.sock.fileno())
            upstream.sock.close()
            upstream.until = _CLOSED
            self._per_client[upstream.client] -= 1
            if not self._per_client[upstream.client]:
                del self._per_client[upstream.client]

    def close_idle(self, now: int) -> None:
        """Those that nobody waits at any more, and that will not be used again."""
        for upstream, owner in list(self._sockets.items()):
            if not upstream.waiting and not upstream.may_take_more(now):
                owner.let_go(upstream)
                self.close(upstream)

    def send(self, asked: Asked, message: bytes) -> None:
        """With the next `flush`, under the id of ours."""
        upstream = asked.upstream
        assert upstream is not None
        if not upstream.unsent:
            self._unsent.append(upstream)
        upstream.unsent.append((asked, asked.number + message[2:]))

    def flush(self) -> None:
        """All at once: who is woken up by the first question finds the others, too."""
        if not self._unsent:
            return
        unsent, self._unsent = self._unsent, []
        for upstream in unsent:
            questions, upstream.unsent = upstream.unsent, []
            for start in range(0, len(questions), MOST):
                self._send_some(upstream, questions[start : start + MOST])

    def _send_some(self, upstream: UpstreamSocket, questions: list[tuple[Asked, bytes]]) -> None:
        for slot, number in self._send(upstream.sock, [message for _, message in questions]):
            if number == EAGAIN:
                continue  # as lost on the way: the client asks again
            if number in (ECONNREFUSED, EBADF):
                # ICMP has said of an earlier question that nobody is there, and this one has not been sent.
                self._fail(upstream)
                return
            asked = questions[slot][0]
            if upstream.waiting.get(asked.number) is asked:
                self._on_failure(asked)

    def _send(self, sock: socket, messages: list[bytes]) -> list[tuple[int, int]]:
        """At most `MOST`. Returns (place, error number) of those that the kernel did not take."""
        if len(messages) >= FEW and max(map(len, messages)) <= MAX_BYTES and sock.fileno() >= 0:
            for slot, message in enumerate(messages):
                self._burst.put(slot, message)
            return self._burst.send(sock.fileno(), len(messages))
        refused: list[tuple[int, int]] = []
        for slot, message in enumerate(messages):
            try:
                sock.send(message)
            except OSError as error:
                refused.append((slot, error.errno or EBADF))
        return refused

    def forget(self, asked: Asked) -> None:
        """It waits no more."""
        upstream = asked.upstream
        if upstream is not None and upstream.waiting.get(asked.number) is asked:
            del upstream.waiting[asked.number]
            self._close_if_over(upstream)

    def _read(self, upstream: UpstreamSocket) -> None:
        self._read_some(upstream)
        self._on_read()

    def _read_some(self, upstream: UpstreamSocket) -> None:
        receive = upstream.sock.recv
        for _ in range(self._pace.begin()):
            try:
                data = receive(MAX_ANSWER)
            except BlockingIOError:
                break
            except OSError:
                self._fail(upstream)
                return
            if not self._on_answer(upstream, data) and data[:2] not in upstream.ids:
                # No second answer, and none that comes too late: somebody guesses.
                upstream.mismatches += 1
                if upstream.mismatches >= MAX_MISMATCHES:
                    self._give_up(upstream)
                    return
        self._close_if_over(upstream)

    def _close_if_over(self, upstream: UpstreamSocket) -> None:
        owner = self._sockets.get(upstream)
        if owner is not None and not upstream.waiting and not owner.uses(upstream):
            self.close(upstream)

    def _fail(self, upstream: UpstreamSocket) -> None:
        """ICMP says that nobody is there. It may be about any of the questions: the others ask again by themselves."""
        for asked in self._abandon(upstream):
            self._on_failure(asked)

    def _give_up(self, upstream: UpstreamSocket) -> None:
        for asked in self._abandon(upstream):
            self._on_guesses(asked)

    def _abandon(self, upstream: UpstreamSocket) -> list[Asked]:
        """No more questions by this socket, and no answers. Returns who waits there."""
        waiting = list(upstream.waiting.values())
        upstream.waiting.clear()
        owner = self._sockets.get(upstream)
        if owner is not None:
            owner.let_go(upstream)
        self.close(upstream)
        return waiting

    def close_all(self) -> None:
        for upstream in list(self._sockets):
            self.close(upstream)
