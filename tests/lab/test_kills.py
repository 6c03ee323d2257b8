"""The agent is killed fifty times, at random moments, also while it starts, under traffic of every kind: allowed
connections live on, and nothing that is denied ever arrives. Counted where it would arrive.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.lab.support import Http, Node, eventually

pytestmark = pytest.mark.lab

KILLS = 50
LONGEST_S = 1.6
"""Starting up takes about that long, so that kills fall into every part of it, and behind it."""
DENIED_TCP, DENIED_UDP, ALLOWED, INSPECTED = 8998, 8999, 81, 80


@dataclass
class Traffic:
    """What was sent, and what came of it."""

    stop: threading.Event = field(default_factory=threading.Event)
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def run(self, work: Callable[[], None]) -> None:
        try:
            while not self.stop.is_set():
                work()
        except Exception as error:  # of whatever kind: a thread's failure is the test's, which looks at `failures`
            self.failures.append(f"{getattr(work, '__name__', work)}: {error!r}")


@pytest.fixture
def receivers(node: Node) -> Iterator[tuple[socket.socket, socket.socket]]:
    """In the server's pod, on ports that no rule allows."""
    with (
        node.lab.socket("shop/server", socket.AF_INET6) as tcp,
        node.lab.socket("shop/server", socket.AF_INET6, socket.SOCK_DGRAM) as udp,
    ):
        for one, port in ((tcp, DENIED_TCP), (udp, DENIED_UDP)):
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            one.bind(("::", port))
            one.setblocking(False)
        tcp.listen(1000)
        yield tcp, udp


def test_fifty_kills(node: Node, receivers: tuple[socket.socket, socket.socket]) -> None:
    traffic = Traffic()
    sources = random.Random(seed := random.randrange(1 << 30))
    print(f"seed {seed}")

    def denied() -> None:
        for ip in (4, 6):
            family = socket.AF_INET6 if ip == 6 else socket.AF_INET
            with node.lab.socket("shop/client", family, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"denied", (node.address("shop/server", ip), DENIED_UDP))
            with node.lab.socket("shop/client", family) as tcp:
                tcp.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    tcp.connect((node.address("shop/server", ip), DENIED_TCP))
            traffic.count("denied")
        time.sleep(0.01)

    def inspected() -> None:
        for path in ("/secret", "/public"):
            # Refused, reset or silent: whatever comes while the proxy is away, it is no answer to /secret.
            try:
                with node.connection(INSPECTED, timeout=0.5) as connection:
                    status = Http(connection).request("GET", path).status
            except (OSError, EOFError, AssertionError):
                status = 0
            traffic.count(f"{path} {status}")
            assert (path, status) != ("/secret", 200)

    def talking(connection: socket.socket, ip: int) -> Callable[[], None]:
        def talk() -> None:
            word = f"{traffic.counts.get(f'allowed v{ip}', 0):08}".encode()
            connection.sendall(word)
            received = b""
            while len(received) < len(word):
                piece = connection.recv(100)
                assert piece, "the connection ended"
                received += piece
            assert received == word
            traffic.count(f"allowed v{ip}")
            time.sleep(0.005)

        return talk

    with contextlib.ExitStack() as open_connections:
        works = [denied, inspected]
        for ip in (4, 6):
            connection = open_connections.enter_context(node.connection(ALLOWED, ip))
            works.append(talking(connection, ip))
        threads = [threading.Thread(target=traffic.run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                time.sleep(sources.uniform(0, LONGEST_S))
                if node.lab.agent.pid is not None:
                    node.kill_agent()
                node.lab.agent.reap_ended()
                node.lab.agent.start(node.policies)
            node.lab.agent.wait_ready()
        finally:
            traffic.stop.set()
            for thread in threads:
                thread.join()
    print(traffic.counts)
    assert traffic.failures == []
    assert traffic.counts["denied"] > KILLS
    assert min(traffic.counts["allowed v4"], traffic.counts["allowed v6"]) > KILLS
    tcp, udp = receivers
    with pytest.raises(BlockingIOError):
        udp.recv(100)
    with pytest.raises(BlockingIOError):
        tcp.accept()
    assert not any("/secret" in line for line in node.server_log())
    # And it is all as it was.
    eventually(node.is_healthy)
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
        assert http.request("GET", "/secret").status == 403
