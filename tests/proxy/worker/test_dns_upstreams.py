"""Questions on real sockets to a server on this machine: ids and ports nobody can foretell, and who waits for what."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
import pytest_asyncio

from proxy.worker import dns_upstreams
from proxy.worker.bursts import MAX_BYTES, Pace
from proxy.worker.datagrams import Address
from proxy.worker.dns_upstreams import SocketPool, Upstreams, UpstreamSocket

if TYPE_CHECKING:
    from proxy.worker.dns_proxy import Asked

pytestmark = pytest.mark.asyncio

LOCAL = "127.0.0.1"
CLIENT = "192.0.2.1"
CLIENT_ID = b"\x12\x34"
PATIENCE_S = 5.0


class Server:
    """A DNS server in the test's hands."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind((LOCAL, 0))
        self.address: Address = self._socket.getsockname()

    def received(self, count: int) -> list[tuple[bytes, int]]:
        """(message, port it came from)."""
        found = []
        for _ in range(count):
            data, client = self._socket.recvfrom(65535)
            found.append((data, client[1]))
        assert self.is_quiet()
        return found

    def is_quiet(self) -> bool:
        return not select.select([self._socket], [], [], 0)[0]

    def send(self, data: bytes, port: int) -> None:
        self._socket.sendto(data, (LOCAL, port))

    def close(self) -> None:
        self._socket.close()


@dataclass(eq=False)
class Question:
    """All that sockets need to know of one."""

    upstream: UpstreamSocket | None = None
    number: bytes = b""


@dataclass(eq=False)
class Proxy:
    """Does with answers what the DNS proxy does, and remembers it."""

    server: Server
    answers: list[tuple[Question, bytes]] = field(default_factory=list)
    failed: list[Question] = field(default_factory=list)
    guessed: list[Question] = field(default_factory=list)
    mismatched: list[bytes] = field(default_factory=list)
    reads: int = 0

    def __post_init__(self) -> None:
        self.pool = SocketPool(self._answered, self._failed, self._guessed, self._read, Pace())
        self.upstreams = self.to_server()

    def to_server(self, client: str = CLIENT) -> Upstreams:
        return Upstreams(client, self.server.address, self.pool)

    def _answered(self, upstream: UpstreamSocket, data: bytes) -> bool:
        asked = upstream.waiting.pop(data[:2], None)
        if asked is None:
            self.mismatched.append(data)
            return False
        self.answers.append((cast("Question", asked), data))
        return True

    def _failed(self, asked: Asked) -> None:
        self.failed.append(cast("Question", asked))
        self.pool.forget(asked)

    def _guessed(self, asked: Asked) -> None:
        self.guessed.append(cast("Question", asked))
        self.pool.forget(asked)

    def _read(self) -> None:
        self.reads += 1
        self.pool.flush()

    def queue(self, message: bytes = CLIENT_ID + b"?", *, now: int = 0, on: Upstreams | None = None) -> Question:
        asked = Question()
        assert (on or self.upstreams).ask(cast("Asked", asked), message, now)
        return asked

    def ask(self, message: bytes = CLIENT_ID + b"?", *, now: int = 0, on: Upstreams | None = None) -> Question:
        asked = self.queue(message, now=now, on=on)
        self.pool.flush()
        return asked

    def forget(self, asked: Question) -> None:
        self.pool.forget(cast("Asked", asked))


async def eventually(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def settle() -> None:
    """What has arrived has been read afterwards."""
    await asyncio.sleep(0.05)


def port_of(asked: Question) -> int:
    assert asked.upstream is not None
    return int(asked.upstream.sock.getsockname()[1])


def is_closed(asked: Question) -> bool:
    assert asked.upstream is not None
    return asked.upstream.sock.fileno() < 0


def plain(client: str, server: Address) -> socket.socket:
    """As `datagrams.connect`, from an address that this machine has."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((LOCAL, 0))
    sock.connect(server)
    return sock


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest_asyncio.fixture
async def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    monkeypatch.setattr(dns_upstreams, "connect", plain)
    made = Proxy(server)
    yield made
    made.pool.close_all()


# -- ids ---------------------------------------------------------------------------------------------------------------


async def test_a_question_goes_on_as_it_is_but_for_its_id(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask(CLIENT_ID + b"what is it?")
    [(data, port)] = server.received(1)
    assert data == asked.number + b"what is it?"
    assert port == port_of(asked)
    server.send(data[:2] + b"that is it", port)
    await eventually(lambda: proxy.answers)
    assert proxy.answers == [(asked, asked.number + b"that is it")]


async def test_ids_are_not_those_of_the_client(proxy: Proxy, server: Server) -> None:
    asked = [proxy.ask(number.to_bytes(2, "big") + b"?") for number in range(200)]
    sent = [data[:2] for data, _ in server.received(200)]
    assert sent == [item.number for item in asked]
    assert len(set(sent)) == 200, "no two alike wait on one socket"
    assert sum(int.from_bytes(data, "big") == number for number, data in enumerate(sent)) < 5
    steps = {int.from_bytes(one, "big") - int.from_bytes(other, "big") for one, other in pairwise(sent)}
    assert len(steps) > 150, "nobody can foretell the next one"


def draw(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """What chance has to give: these ids first."""
    wanted = b"".join(number.to_bytes(2, "big") for number in reversed(numbers))
    monkeypatch.setattr(os, "urandom", lambda size: wanted.rjust(size, b"?"))


async def test_a_socket_has_no_id_twice(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes too late is never that to another question."""
    draw(monkeypatch, 1, 1, 1, 2, 1, 2, 3)
    asked = []
    for _ in range(3):
        asked.append(proxy.ask())
        proxy.forget(asked[-1])
    assert [item.number for item in asked] == [b"\0\1", b"\0\2", b"\0\3"]
    assert len({port_of(item) for item in asked}) == 1


# -- sending -----------------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_before_all_is(proxy: Proxy, server: Server) -> None:
    proxy.queue()
    proxy.queue()
    assert server.is_quiet()
    proxy.pool.flush()
    assert len(server.received(2)) == 2
    proxy.pool.flush()
    assert server.is_quiet()


@pytest.mark.parametrize("count", [1, 3, 4, 63, 64, 65, 130])
async def test_many_at_once(proxy: Proxy, server: Server, count: int) -> None:
    messages = [CLIENT_ID + b"?" * (number % 50) for number in range(count)]
    asked = [proxy.queue(message) for message in messages]
    proxy.pool.flush()
    expected = [item.number + message[2:] for item, message in zip(asked, messages, strict=True)]
    assert [data for data, _ in server.received(count)] == expected


async def test_long_ones_among_them(proxy: Proxy, server: Server) -> None:
    sizes = [10, MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1, 4096, 10]
    asked = [proxy.queue(CLIENT_ID + bytes(size - 2)) for size in sizes]
    proxy.pool.flush()
    got = sorted(data for data, _ in server.received(len(sizes)))
    assert got == sorted(item.number + bytes(size - 2) for item, size in zip(asked, sizes, strict=True))


async def test_to_several_servers_at_once(proxy: Proxy, server: Server) -> None:
    other = Server()
    there = Upstreams(CLIENT, other.address, proxy.pool)
    first = [proxy.queue() for _ in range(6)]
    second = [proxy.queue(on=there) for _ in range(6)]
    proxy.pool.flush()
    assert {data[:2] for data, _ in server.received(6)} == {item.number for item in first}
    assert {data[:2] for data, _ in other.received(6)} == {item.number for item in second}
    other.close()


async def test_what_can_not_be_sent_has_failed(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def mute(client: str, server: Address) -> socket.socket:
        sock = plain(client, server)
        sock.shutdown(socket.SHUT_WR)
        return sock

    monkeypatch.setattr(dns_upstreams, "connect", mute)
    for count in (1, 10):
        asked = [proxy.queue() for _ in range(count)]
        proxy.pool.flush()
        assert proxy.failed == asked
        proxy.failed.clear()


async def test_a_question_that_is_sent_twice_fails_once(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def mute(client: str, server: Address) -> socket.socket:
        sock = plain(client, server)
        sock.shutdown(socket.SHUT_WR)
        return sock

    monkeypatch.setattr(dns_upstreams, "connect", mute)
    asked = proxy.queue()
    # The client has asked again before anything was sent.
    proxy.pool.send(cast("Asked", asked), CLIENT_ID + b"?")
    proxy.pool.flush()
    assert proxy.failed == [asked]


async def test_what_nobody_waits_for_any_more_does_not_fail(proxy: Proxy, server: Server) -> None:
    asked = proxy.queue()
    proxy.upstreams.close()
    proxy.forget(asked)
    assert is_closed(asked)
    proxy.pool.flush()
    assert proxy.failed == []
    assert server.is_quiet()


# -- ports -------------------------------------------------------------------------------------------------------------


async def test_a_port_is_kept_for_a_moment(proxy: Proxy) -> None:
    first = proxy.ask(now=1)
    assert port_of(proxy.ask(now=1 + dns_upstreams.MAX_AGE_NS)) == port_of(first)
    assert port_of(proxy.ask(now=2 + dns_upstreams.MAX_AGE_NS)) != port_of(first)


async def test_a_port_is_kept_for_some_questions(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_USES", 3)
    ports = [port_of(proxy.ask()) for _ in range(9)]
    assert [ports.count(port) for port in dict.fromkeys(ports)] == [3, 3, 3]


async def test_clients_and_servers_do_not_share_ports(proxy: Proxy) -> None:
    ports = {port_of(proxy.ask(on=proxy.to_server(client))) for client in (CLIENT, "192.0.2.2", CLIENT)}
    assert len(ports) == 3


async def test_it_is_the_client_who_asks(proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, Address]] = []

    def noted(client: str, there: Address) -> socket.socket:
        made.append((client, there))
        return plain(client, there)

    monkeypatch.setattr(dns_upstreams, "connect", noted)
    proxy.ask()
    proxy.ask()
    assert made == [(CLIENT, server.address)]


async def test_an_old_socket_stays_for_as_long_as_somebody_waits(
    proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_USES", 2)
    first, second, third = (proxy.ask() for _ in range(3))
    assert first.upstream is second.upstream is not third.upstream
    server.send(second.number + b"!", port_of(second))
    await eventually(lambda: proxy.answers)
    await settle()
    assert not is_closed(first)
    server.send(first.number + b"!", port_of(first))
    await eventually(lambda: is_closed(first))
    assert [asked for asked, _ in proxy.answers] == [second, first]
    assert not is_closed(third)


async def test_an_old_socket_without_questions_is_closed_at_once(proxy: Proxy, server: Server) -> None:
    first = proxy.ask(now=0)
    server.send(first.number + b"!", port_of(first))
    await eventually(lambda: proxy.answers)
    assert not is_closed(first)
    proxy.ask(now=dns_upstreams.MAX_AGE_NS + 1)
    assert is_closed(first)


async def test_an_old_socket_is_closed_with_the_last_question_that_is_given_up(proxy: Proxy) -> None:
    first = proxy.ask(now=0)
    proxy.ask(now=dns_upstreams.MAX_AGE_NS + 1)
    assert not is_closed(first)
    proxy.forget(first)
    assert is_closed(first)


async def test_without_a_way_to_the_server(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(client: str, server: Address) -> socket.socket:
        raise OSError

    first = proxy.ask(now=0)
    monkeypatch.setattr(dns_upstreams, "connect", fail)
    asked = Question()
    assert not proxy.upstreams.ask(cast("Asked", asked), CLIENT_ID, dns_upstreams.MAX_AGE_NS + 1)
    assert asked.upstream is None
    monkeypatch.setattr(dns_upstreams, "connect", plain)
    assert port_of(proxy.ask()) != port_of(first)


def refused(upstreams: Upstreams, now: int = 0) -> bool:
    asked = Question()
    if upstreams.ask(cast("Asked", asked), CLIENT_ID, now):
        return False
    assert asked.upstream is None
    return True


async def test_sockets_of_all_are_bounded(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_SOCKETS", 3)
    asked = [proxy.ask(on=proxy.to_server(f"192.0.2.{number}")) for number in range(3)]
    late = proxy.to_server("192.0.2.9")
    assert refused(late)
    proxy.forget(asked[0])
    proxy.pool.close_idle(dns_upstreams.MAX_AGE_NS + 1)
    assert not refused(late)
    assert refused(proxy.to_server("192.0.2.10"))


async def test_sockets_of_one_client_are_bounded(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_SOCKETS_PER_CLIENT", 2)
    mine = [proxy.to_server() for _ in range(3)]
    for upstreams in mine[:2]:
        proxy.ask(on=upstreams)
    assert refused(mine[2])
    assert not refused(proxy.to_server("192.0.2.2")), "others have their own"
    proxy.pool.close_all()
    assert not refused(mine[2])


async def test_where_there_is_no_room_the_old_socket_is_used_on(
    proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_SOCKETS_PER_CLIENT", 1)
    monkeypatch.setattr(dns_upstreams, "MAX_USES", 2)
    monkeypatch.setattr(dns_upstreams, "MAX_IDS", 5)
    later = dns_upstreams.MAX_AGE_NS + 1
    asked = [proxy.ask(now=later * number) for number in range(5)]
    assert len({port_of(item) for item in asked}) == 1
    assert refused(proxy.upstreams, 9 * later)
    for item in asked:
        server.send(item.number + b"!", port_of(item))
    await eventually(lambda: len(proxy.answers) == 5)
    assert is_closed(asked[0])
    assert not is_closed(proxy.ask(now=9 * later))


async def test_idle_sockets_are_closed_when_their_time_is_up(
    proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_USES", 3)
    idle, busy, used = (proxy.to_server() for _ in range(3))
    first, second = proxy.ask(on=idle), proxy.ask(on=busy)
    many = [proxy.ask(on=used) for _ in range(3)]
    for asked in (first, *many):
        server.send(asked.number + b"!", port_of(asked))
    await eventually(lambda: len(proxy.answers) == 4)
    proxy.pool.close_idle(dns_upstreams.MAX_AGE_NS)
    assert not is_closed(first)
    assert is_closed(many[0]), "it has been used often enough"
    proxy.pool.close_idle(dns_upstreams.MAX_AGE_NS + 1)
    assert is_closed(first)
    assert not is_closed(second), "somebody waits there"
    assert not is_closed(proxy.ask(on=idle))
    assert not is_closed(proxy.ask(on=used))


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_answers_find_their_questions_in_any_order(proxy: Proxy, server: Server) -> None:
    asked = [proxy.ask() for _ in range(100)]
    for item in reversed(asked):
        server.send(item.number + b"!", port_of(item))
    await eventually(lambda: len(proxy.answers) == 100)
    assert [item for item, _ in proxy.answers] == asked[::-1]
    assert proxy.mismatched == []
    assert proxy.reads > 0


async def test_long_answers(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask()
    answer = asked.number + bytes(60000)
    server.send(answer, port_of(asked))
    await eventually(lambda: proxy.answers)
    assert proxy.answers == [(asked, answer)]


async def test_what_answers_make_be_asked_is_sent(proxy: Proxy, server: Server) -> None:
    """`on_read` is the end of a burst, also of what the answers have led to."""
    first, second = proxy.ask(), proxy.queue()
    server.received(1)
    server.send(first.number + b"!", port_of(first))
    await eventually(lambda: proxy.answers)
    [(data, _)] = server.received(1)
    assert data[:2] == second.number


async def test_an_answer_that_comes_twice_counts_once(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask()
    for _ in range(2):
        server.send(asked.number + b"!", port_of(asked))
    await eventually(lambda: proxy.mismatched)
    assert [item for item, _ in proxy.answers] == [asked]


async def test_an_answer_on_another_socket_answers_nothing(
    proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_USES", 1)
    draw(monkeypatch, 1, 2)
    first, second = proxy.ask(), proxy.ask()
    server.send(first.number + b"!", port_of(second))
    await eventually(lambda: proxy.mismatched)
    assert proxy.answers == []
    server.send(first.number + b"!", port_of(first))
    await eventually(lambda: proxy.answers)
    assert [item for item, _ in proxy.answers] == [first]


async def test_who_is_not_the_server_is_not_even_heard(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask()
    other = Server()
    for _ in range(2 * dns_upstreams.MAX_MISMATCHES):
        other.send(asked.number + b"!", port_of(asked))
    await settle()
    assert (proxy.answers, proxy.mismatched, proxy.guessed) == ([], [], [])
    server.send(asked.number + b"!", port_of(asked))
    await eventually(lambda: proxy.answers)
    other.close()


async def test_a_late_answer_answers_nothing(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask()
    proxy.forget(asked)
    proxy.forget(asked)
    server.send(asked.number + b"!", port_of(asked))
    await eventually(lambda: proxy.mismatched)
    assert proxy.answers == []


# -- who guesses -------------------------------------------------------------------------------------------------------


def wrong(*asked: Question) -> list[bytes]:
    """Ids on which nobody waits."""
    waiting = {item.number for item in asked}
    return [data for number in range(1000) if (data := number.to_bytes(2, "big")) not in waiting]


async def test_after_a_few_guesses_the_socket_is_given_up(proxy: Proxy, server: Server) -> None:
    asked = [proxy.ask() for _ in range(5)]
    port = port_of(asked[0])
    for number in wrong(*asked)[: dns_upstreams.MAX_MISMATCHES]:
        server.send(number + b"!", port)
    await eventually(lambda: proxy.guessed)
    assert proxy.guessed == asked
    assert all(is_closed(item) for item in asked)
    assert (proxy.answers, proxy.failed) == ([], [])
    later = proxy.ask()
    assert port_of(later) != port
    server.send(later.number + b"!", port_of(later))
    await eventually(lambda: proxy.answers)


async def test_fewer_guesses_change_nothing(proxy: Proxy, server: Server) -> None:
    asked = [proxy.ask() for _ in range(2)]
    for number in wrong(*asked)[: dns_upstreams.MAX_MISMATCHES - 1]:
        server.send(number + b"!", port_of(asked[0]))
    for item in asked:
        server.send(item.number + b"!", port_of(item))
    await eventually(lambda: len(proxy.answers) == 2)
    assert len(proxy.mismatched) == dns_upstreams.MAX_MISMATCHES - 1
    assert proxy.guessed == []
    assert port_of(proxy.ask()) == port_of(asked[0])


async def test_late_answers_and_second_ones_are_no_guesses(proxy: Proxy, server: Server) -> None:
    many = 2 * dns_upstreams.MAX_MISMATCHES
    given_up, answered, waits = ([proxy.ask() for _ in range(count)] for count in (many, many, 1))
    for item in given_up:
        proxy.forget(item)
    for item in (*given_up, *answered, *answered):
        server.send(item.number + b"!", port_of(item))
    await eventually(lambda: len(proxy.mismatched) == 2 * many)
    assert [item for item, _ in proxy.answers] == answered
    assert proxy.guessed == []
    assert not is_closed(waits[0])


async def test_guesses_at_an_old_socket_do_not_touch_the_new_one(
    proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_upstreams, "MAX_USES", 1)
    old, new = proxy.ask(), proxy.ask()
    for number in wrong(old)[: dns_upstreams.MAX_MISMATCHES]:
        server.send(number + b"!", port_of(old))
    await eventually(lambda: proxy.guessed)
    assert proxy.guessed == [old]
    assert is_closed(old)
    assert not is_closed(new)
    server.send(new.number + b"!", port_of(new))
    await eventually(lambda: proxy.answers)


# -- nobody is there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 64])
async def test_all_that_wait_hear_that_nobody_is_there(proxy: Proxy, server: Server, count: int) -> None:
    asked = [proxy.queue() for _ in range(count)]
    server.close()
    proxy.pool.flush()
    await eventually(lambda: len(proxy.failed) == count)
    assert proxy.failed == asked
    assert (proxy.answers, proxy.guessed) == ([], [])


async def test_the_next_question_finds_a_server_that_is_back(proxy: Proxy, server: Server) -> None:
    server.close()
    proxy.ask()
    await eventually(lambda: proxy.failed)
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with back:
        back.settimeout(PATIENCE_S)
        back.bind(server.address)
        asked = proxy.ask()
        data, client = back.recvfrom(100)
        back.sendto(data, client)
        await eventually(lambda: proxy.answers)
    assert [item for item, _ in proxy.answers] == [asked]


async def test_an_old_socket_is_closed_when_nobody_is_there(proxy: Proxy, server: Server) -> None:
    server.close()
    old = proxy.queue(now=0)
    new = proxy.queue(now=dns_upstreams.MAX_AGE_NS + 1)
    proxy.pool.flush()
    await eventually(lambda: len(proxy.failed) == 2)
    assert is_closed(old)
    assert is_closed(new)


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_closing_lets_answers_come(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask()
    proxy.upstreams.close()
    assert not is_closed(asked)
    server.send(asked.number + b"!", port_of(asked))
    await eventually(lambda: is_closed(asked))
    assert [item for item, _ in proxy.answers] == [asked]


async def test_closing_where_nobody_waits(proxy: Proxy, server: Server) -> None:
    asked = proxy.ask()
    server.send(asked.number + b"!", port_of(asked))
    await eventually(lambda: proxy.answers)
    proxy.upstreams.close()
    proxy.upstreams.close()
    assert is_closed(asked)
    assert not is_closed(proxy.ask())


async def test_everything_can_be_closed(proxy: Proxy, server: Server) -> None:
    asked = [proxy.ask(on=proxy.to_server()) for _ in range(3)]
    proxy.pool.close_all()
    assert all(is_closed(item) for item in asked)
    again = proxy.ask()
    assert not is_closed(again)
    await settle()
    assert (proxy.failed, proxy.guessed) == ([], [])
