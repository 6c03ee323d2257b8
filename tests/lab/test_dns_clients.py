"""DNS servers and DNS clients that everybody uses, with the proxy between them."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from proxy.lab.lookup import Answer, framed, query, question, read_answer, receive_framed
from tests.lab import dns_servers
from tests.lab.dns_clients import MUSL, WAIT_MS
from tests.lab.dns_servers import LARGE, OTHER, WWW, fresh, open_world
from tests.lab.dns_support import dns_entry, dns_lab, is_open, names_entry, pods, policy
from tests.lab.support import PATIENCE_S, Node, eventually

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("forgotten")]

ROOT = Path(__file__).parents[2]
CLIENT, FREE, CROWD = "shop/client", "shop/free", ("shop/crowd-1", "shop/crowd-2")
OUTSIDE = {4: "192.0.2.53", 6: "2001:db8::53"}
"""The server in the world."""

SERVERS = {
    "knotd": ("knotd", "shop/server-knotd"),
    "unbound": ("unbound", "shop/server-unbound"),
    "dnsmasq": ("dnsmasq", "shop/server-dnsmasq"),
    "node": ("knotd", "node"),
    "world": ("unbound", "world"),
}
"""What is where, by the names of the tests' parameters."""

HTTP = 80
UNWAITED_S = 30
"""That resolvers would wait for an answer: longer than any of them may take altogether (`PATIENCE_S`)."""

ALLOWED, REFUSED = "*.fixed.test", fresh(1)[0]
"""The refused name is one that knotd and dnsmasq have."""

RECORDER = "shop/server-recorder"
CROWD_SIZE = 1500
FIRST_PORT = 20_000
QUIET_MS = 800
WORKERS = 2
WORKLOADS = (
    pods(
        "client",
        "free",
        "crowd-1",
        "crowd-2",
        "server-recorder",
        *(where.partition("/")[2] for _, where in SERVERS.values() if "/" in where),
    )
    + f"""\
---
kind: World
apiVersion: lab.penstock.io/v1
spec:
  hosts: [{{name: dns.world.test, addresses: ["{OUTSIDE[4]}", "{OUTSIDE[6]}"]}}]
"""
)


def _rules(app: str, pattern: str) -> str:
    names = f"[{{matchPattern: '{pattern}'}}]"
    outside = f"toCIDR: [{OUTSIDE[4]}/32, '{OUTSIDE[6]}/128']"
    servers = ("toEndpoints: [{matchLabels: {app: server}}]", "toEntities: [host]", outside)
    return policy(app, *(dns_entry(names, server) for server in servers), names_entry(names, HTTP))


POLICY = _rules("client", ALLOWED) + _rules("crowd", "*.fresh.test")


@contextmanager
def all_servers(lab_name: str, folder: Path) -> Iterator[Node]:
    with dns_lab(lab_name, folder / "lab", WORKLOADS, POLICY, {"workers": WORKERS}) as found:
        open_world(found.lab)
        for name, (kind, where) in SERVERS.items():
            dns_servers.start(found.lab, kind, where, [address_of(found, name, ip) for ip in (4, 6)], folder / name)
        yield found


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with all_servers(lab_name, tmp_path_factory.mktemp("dns")) as found:
        yield found


@pytest.fixture
def forgotten(node: Node) -> None:
    """Nothing is open but by what the test itself asks."""
    node.lab.agent.client.delete("/v1/fqdn/cache")


@pytest.fixture(params=SERVERS)
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[4, 6])
def ip(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def server(node: Node, where: str, ip: int) -> str:
    return address_of(node, where, ip)


def address_of(node: Node, name: str, ip: int) -> str:
    place = SERVERS[name][1]
    if place == "world":
        return OUTSIDE[ip]
    if place == "node":
        return str(ip_network(node.lab.state.v6 if ip == 6 else node.lab.state.v4)[1])
    return node.address(place, ip)


# -- the same bytes ----------------------------------------------------------------------------------------------------


def _edns(size: int, options: bytes = b"", *, dnssec: bool = False, version: int = 0) -> bytes:
    return struct.pack(">BHHBBHH", 0, 41, size, 0, version, dnssec << 15, len(options)) + options


def _option(code: int, data: bytes = b"") -> bytes:
    return struct.pack(">HH", code, len(data)) + data


def _flagged(message: bytes, flags: int) -> bytes:
    return message[:2] + flags.to_bytes(2, "big") + message[4:]


_WWW = question("www.fixed.test")
QUERIES = {
    "A": query(_WWW, 1),
    "AAAA": query(question("www.fixed.test", "AAAA"), 1),
    "CNAME": query(question("alias.fixed.test"), 1),
    "no data": query(question("other.fixed.test", "AAAA"), 1),
    "no such name": query(question("none.fixed.test"), 1),
    "a type of tomorrow": query(question("www.fixed.test", "TYPE65280"), 1),
    "any type": query(question("www.fixed.test", "TYPE255"), 1),
    "mixed case": query(question("wWw.fIXed.tEsT", "AAAA"), 1),
    "no recursion": _flagged(query(_WWW, 1), 0),
    "AD": _flagged(query(_WWW, 1), 0x0120),
    "CD": _flagged(query(_WWW, 1), 0x0110),
    "EDNS 512": query(_WWW, 1, _edns(512)),
    "EDNS 1232": query(_WWW, 1, _edns(1232)),
    "EDNS 65535": query(_WWW, 1, _edns(65535)),
    "EDNS version 1": query(_WWW, 1, _edns(1232, version=1)),
    "DNSSEC": query(_WWW, 1, _edns(1232, dnssec=True)),
    "cookie": query(_WWW, 1, _edns(1232, _option(10, b"8 octets"))),
    "name server id": query(_WWW, 1, _edns(1232, _option(3))),
    "client subnet": query(_WWW, 1, _edns(1232, _option(8, b"\0\1\x18\0\xc0\0\2"))),
    "padding": query(_WWW, 1, _edns(1232, _option(12, bytes(64)))),
    "an option of tomorrow": query(_WWW, 1, _edns(1232, _option(65001, b"\xc0\xff\xee"))),
}


@contextmanager
def _connected(node: Node, pod: str, server: str, *, tcp: bool = False, port: int = 0) -> Iterator[socket.socket]:
    """A socket of the pod to the server, from any local port or this."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with node.lab.socket(pod, socket.AF_INET6 if ":" in server else socket.AF_INET, kind) as connection:
        connection.settimeout(PATIENCE_S)
        connection.bind(("", port))
        connection.connect((server, dns_servers.PORT))
        yield connection


def _exchange(connection: socket.socket, message: bytes) -> bytes:
    if connection.type == socket.SOCK_STREAM:
        connection.sendall(framed(message))
        return receive_framed(connection)
    connection.send(message)
    return connection.recv(65535)


def _ask(node: Node, pod: str, server: str, message: bytes, *, tcp: bool = False) -> Answer:
    with _connected(node, pod, server, tcp=tcp) as connection:
        return read_answer(_exchange(connection, message))


def _reaches(node: Node, address: str, pod: str = CLIENT) -> bool:
    """At the first attempt: the kernel sends a lost SYN again after a second."""
    return is_open(node, pod, address, HTTP, WAIT_MS / 1000)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_answers_are_the_servers_to_the_byte(node: Node, server: str, tcp: bool) -> None:
    with _connected(node, CLIENT, server, tcp=tcp) as proxied, _connected(node, FREE, server, tcp=tcp) as direct:
        for what, message in QUERIES.items():
            assert _exchange(proxied, message) == _exchange(direct, message), what
    assert all(_reaches(node, address) for address in WWW)


def test_what_is_refused_says_so(node: Node, server: str) -> None:
    for tcp in (False, True):
        with _connected(node, CLIENT, server, tcp=tcp) as connection:
            for message in (query(question(REFUSED), 1), query(question(REFUSED), 2, _edns(1232))):
                assert read_answer(_exchange(connection, message)).outcome == "refused"


def test_nothing_opens_but_by_an_answer_of_ones_own(node: Node) -> None:
    server = address_of(node, "knotd", 4)
    assert _ask(node, CLIENT, server, query(question(REFUSED), 1)).outcome == "refused"
    assert _ask(node, FREE, server, query(_WWW, 1)).addresses == (WWW[0],)
    assert not _reaches(node, fresh(1)[1])
    assert not _reaches(node, WWW[0])
    assert _ask(node, CLIENT, server, query(_WWW, 1)).addresses == (WWW[0],)
    assert _reaches(node, WWW[0])


def test_many_queries_at_once_over_one_connection(node: Node, server: str) -> None:
    """And the refused ones between them."""
    asked = [("www.fixed.test", "A"), (REFUSED, "A"), ("www.fixed.test", "AAAA"), ("other.fixed.test", "A")]
    wanted = [((WWW[0],), 0), ((), 5), ((WWW[1],), 0), ((OTHER,), 0)]
    questions = [question(*words) for words in asked]
    with _connected(node, CLIENT, server, tcp=True) as connection:
        connection.sendall(b"".join(framed(query(questions[number % 4], number)) for number in range(100)))
        answers = [read_answer(receive_framed(connection)) for _ in range(100)]
    assert sorted(answer.id for answer in answers) == list(range(100))
    for answer in answers:
        assert answer.question == questions[answer.id % 4]
        assert (answer.addresses, answer.rcode) == wanted[answer.id % 4]
    assert all(_reaches(node, address) for address in (*WWW, OTHER))


# -- large answers -----------------------------------------------------------------------------------------------------


def _all_open(node: Node, addresses: Sequence[str]) -> bool:
    """Whether something comes back from each of these IPv4 addresses, at the first attempt."""
    with ExitStack() as stack:
        waiting = select.poll()
        for address in addresses:
            connection = stack.enter_context(node.lab.socket(CLIENT))
            connection.setblocking(False)
            connection.connect_ex((address, HTTP))
            waiting.register(connection, select.POLLOUT)
        deadline, left = time.monotonic() + WAIT_MS / 1000, len(addresses)
        while left and time.monotonic() < deadline:
            for descriptor, _ in waiting.poll(50):
                waiting.unregister(descriptor)
                left -= 1
        return not left


@pytest.mark.parametrize("size", [0, 512, 1232])
def test_what_does_not_fit_is_truncated_and_comes_over_tcp(node: Node, server: str, size: int) -> None:
    message = query(question("large.fixed.test"), 1, _edns(size) if size else b"")
    found, direct = (_ask(node, pod, server, message) for pod in (CLIENT, FREE))
    assert (found.truncated, found.records) == (direct.truncated, direct.records)
    assert found.truncated
    assert _all_open(node, found.addresses), "there are clients that take what they get"
    found = _ask(node, CLIENT, server, message, tcp=True)
    assert not found.truncated
    assert sorted(found.addresses) == sorted(LARGE)
    assert _all_open(node, LARGE)


def test_an_answer_in_fragments(node: Node, server: str) -> None:
    message = query(question("large.fixed.test"), 1, _edns(4096))
    found = _ask(node, CLIENT, server, message)
    assert not found.truncated
    assert sorted(found.addresses) == sorted(LARGE)
    assert _all_open(node, LARGE)


# -- dig, kdig ---------------------------------------------------------------------------------------------------------

_OPTIONS = [
    "www.fixed.test A",
    "www.fixed.test AAAA",
    "www.fixed.test A +edns=0 +bufsize=1232",
    "www.fixed.test A +tcp",
    "www.fixed.test HTTPS",
    "wWw.FIXED.tEsT A",
    "www.fixed.test A +dnssec +adflag +cdflag",
    "www.fixed.test A +norec",
    "www.fixed.test A +nsid",
    "www.fixed.test A +cookie=0011223344556677",
    "www.fixed.test A +ednsopt=65001:c0ffee",
    "www.fixed.test A +subnet=192.0.2.0/24",
    "www.fixed.test A +padding=128",
    "none.fixed.test A",
    "large.fixed.test A +bufsize=512",
    "large.fixed.test A +bufsize=1232",
    "large.fixed.test A +bufsize=512 +ignore",
    "large.fixed.test A +bufsize=4096 +ignore",
]
DIGS = {"dig": ["dig", "-r", "+nocookie"], "kdig": ["kdig"]}
_VARIES = re.compile(
    r"id: +\d+|^;; (?:Query time|WHEN|Time|From|Received|MSG SIZE).*\n|(?<=^large)\.fixed.*\tA\t.*", re.MULTILINE
)
"""Some servers turn long lists of addresses round, and then not the same ones fit."""


def _shown(node: Node, pod: str, *command: str) -> str:
    done = node.lab.exec(pod, command, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.mark.parametrize("program", DIGS)
def test_dig(node: Node, server: str, program: str) -> None:
    words = [word for line in _OPTIONS for word in line.split()]
    one_by_one = [*DIGS[program], f"@{server}", "+timeout=3", "+retry=0", *words]
    kept_open = [*DIGS[program], f"@{server}", "+tcp", "+keepopen", "+timeout=3", *words]
    for command in (one_by_one, kept_open):
        found, direct = (sorted(_VARIES.sub("", _shown(node, pod, *command)).splitlines()) for pod in (CLIENT, FREE))
        assert found == direct
    assert _reaches(node, WWW[0])
    assert _reaches(node, WWW[1])
    assert _all_open(node, LARGE)


@pytest.mark.parametrize("program", DIGS)
def test_dig_is_refused(node: Node, server: str, program: str) -> None:
    shown = _shown(node, CLIENT, *DIGS[program], f"@{server}", *f"+edns=0 {REFUSED} A {REFUSED} A +tcp".split())
    assert shown.count("status: REFUSED") == 2
    assert shown.count("Prohibited") == 2


# -- what the server gets ----------------------------------------------------------------------------------------------


def answer_to(message: bytes) -> bytes:
    """One address, whatever the question."""
    asked = message[12 : message.index(0, 12) + 5]
    head = message[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0)
    return head + asked + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(WWW[0])


class Recorder:
    """A server that keeps what it is asked and answers with one address."""

    def __init__(self, listening: socket.socket) -> None:
        self.asked: list[tuple[str, bytes]] = []
        """Who, and what behind the id."""
        self._listening = listening
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                if self._listening.type == socket.SOCK_DGRAM:
                    message, client = self._listening.recvfrom(65535)
                    self._listening.sendto(self._answer(message, client[0]), client)
                else:
                    connection, client = self._listening.accept()
                    with connection, suppress(EOFError):
                        while True:
                            connection.sendall(framed(self._answer(receive_framed(connection), client[0])))

    def _answer(self, message: bytes, client: str) -> bytes:
        self.asked.append((client, message[2:]))
        return answer_to(message)

    def stop(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE_S)


@contextmanager
def _listening(node: Node, ip: int, *, tcp: bool = False) -> Iterator[socket.socket]:
    """Where the pod without a server would have it."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with node.lab.socket(RECORDER, socket.AF_INET6 if ip == 6 else socket.AF_INET, kind) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.settimeout(PATIENCE_S)
        found.bind(("", dns_servers.PORT))
        if tcp:
            found.listen()
        yield found


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("program", DIGS)
def test_queries_go_on_as_they_are(node: Node, program: str, ip: int, tcp: bool) -> None:
    """But for the id, and from the pod's own address."""
    lines = [line for line in _OPTIONS if "+tcp" not in line and "large" not in line]
    words = [f"{line} {'+tcp' if tcp else '+notcp'}" for line in lines]
    command = [*DIGS[program], f"@{node.address(RECORDER, ip)}", "+timeout=3", *" ".join(words).split()]
    asked = {}
    for pod in (CLIENT, FREE):
        with _listening(node, ip, tcp=tcp) as listening:
            recorder = Recorder(listening)
            _shown(node, pod, *command)
            recorder.stop()
            asked[pod] = recorder.asked
    assert len(asked[FREE]) == len(lines)
    assert {client for client, _ in asked[CLIENT]} == {node.address(CLIENT, ip)}
    assert [message for _, message in asked[CLIENT]] == [message for _, message in asked[FREE]]


# -- ids and ports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", [FREE, CLIENT])
def test_two_questions_with_one_id_from_one_socket(node: Node, ip: int, pod: str) -> None:
    """Both are with the server before it answers one."""
    questions = [question("www.fixed.test", kind) for kind in ("A", "AAAA")]
    with _listening(node, ip) as listening, _connected(node, pod, node.address(RECORDER, ip)) as connection:
        connection.settimeout(PATIENCE_S)
        for asked in questions:
            connection.send(query(asked, 4711))
        for message, client in [listening.recvfrom(512) for _ in questions]:
            listening.sendto(answer_to(message), client)
        answers = [read_answer(connection.recv(512)) for _ in questions]
    assert {answer.id for answer in answers} == {4711}
    assert sorted(answer.question for answer in answers) == sorted(questions)


def test_clients_without_patience(node: Node, ip: int) -> None:
    """Who asks twice gets an answer, whatever there is on the way of the other ones."""
    with ExitStack() as stack:
        listening = stack.enter_context(_listening(node, ip))
        asking = [stack.enter_context(_connected(node, CLIENT, node.address(RECORDER, ip))) for _ in range(64)]
        for connection in asking * 2:
            connection.send(query(_WWW, 4711))
        asked = [listening.recvfrom(512) for _ in range(2 * len(asking))]
        for message, client in sorted(asked):
            listening.sendto(answer_to(message), client)
        for connection in asking:
            assert read_answer(connection.recv(512)).outcome == "answers"


def _name_of(number: int, place: int, ip: int) -> tuple[str, str]:
    """What pod `place` asks with socket `number`: every other time both the same."""
    return fresh(1000 + 2 * number + (place if number % 2 else 0), ip)


def test_thousands_of_questions_with_one_id(node: Node, ip: int) -> None:
    """From two pods with the same ports, all before any answer is read."""
    server = address_of(node, "knotd", ip)
    kind = "AAAA" if ip == 6 else "A"
    with ExitStack() as stack:
        asking: dict[int, tuple[socket.socket, str]] = {}
        for number in range(CROWD_SIZE):
            for place, pod in enumerate(CROWD):
                connection = stack.enter_context(_connected(node, pod, server, port=FIRST_PORT + number))
                name, address = _name_of(number, place, ip)
                connection.send(query(question(name, kind), 4711))
                asking[connection.fileno()] = connection, address
        waiting = select.poll()
        for descriptor in asking:
            waiting.register(descriptor, select.POLLIN)
        found: dict[int, list[tuple[int, tuple[str, ...]]]] = {descriptor: [] for descriptor in asking}
        while ready := waiting.poll(QUIET_MS):
            for descriptor, _ in ready:
                answer = read_answer(asking[descriptor][0].recv(512))
                found[descriptor].append((answer.id, answer.addresses))
    lost = [address for descriptor, (_, address) in asking.items() if not found[descriptor]]
    wrong = [
        (address, found[descriptor])
        for descriptor, (_, address) in asking.items()
        if found[descriptor] and found[descriptor] != [(4711, (address,))]
    ]
    assert wrong == []
    assert lost == []
    first, second = (_name_of(1, place, ip)[1] for place in range(2))
    assert _reaches(node, first, CROWD[0])
    assert _reaches(node, second, CROWD[1])
    assert not _reaches(node, second, CROWD[0])


# -- two workers -------------------------------------------------------------------------------------------------------


def _workers(node: Node) -> dict[int, int]:
    """Process id → connections."""
    return {int(each["pid"]): int(each["connections"]) for each in node.lab.agent.status()["proxy"]["workers"]}


def _sockets(pid: int) -> set[str]:
    """By their inodes."""
    names = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return {name[len("socket:[") : -1] for name in names if name.startswith("socket:[")}


def _owners(pids: Iterable[int], ports: set[int]) -> set[int]:
    """Which of these processes of one network have the UDP ports."""
    found = set()
    for pid in pids:
        mine = _sockets(pid)
        for version in ("udp", "udp6"):
            for line in Path(f"/proc/{pid}/net/{version}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[9] in mine and int(fields[1].rpartition(":")[2], 16) in ports:
                    found.add(pid)
    return found


def test_both_workers_get_datagrams(node: Node, ip: int) -> None:
    workers = _workers(node)
    assert len(workers) == WORKERS
    server = node.address(RECORDER, ip)
    with ExitStack() as stack:
        listening = stack.enter_context(_listening(node, ip))
        asking = [stack.enter_context(_connected(node, CLIENT, server)) for _ in range(64)]
        for number, connection in enumerate(asking):
            connection.send(query(_WWW, number))
        asked = [listening.recvfrom(512) for _ in asking]
        assert _owners(workers, {client[1] for _, client in asked}) == set(workers)
        for message, client in asked:
            listening.sendto(answer_to(message), client)
        for number, connection in enumerate(asking):
            answer = read_answer(connection.recv(512))
            assert (answer.id, answer.addresses) == (number, (WWW[0],))
    assert _reaches(node, WWW[0])


def test_both_workers_get_connections(node: Node, ip: int) -> None:
    server = address_of(node, "knotd", ip)
    eventually(lambda: not any(_workers(node).values()))
    with ExitStack() as stack:
        asking = [stack.enter_context(_connected(node, CLIENT, server, tcp=True)) for _ in range(32)]
        for number, connection in enumerate(asking):
            assert read_answer(_exchange(connection, query(_WWW, number))).addresses == (WWW[0],)
        eventually(lambda: sum(_workers(node).values()) == len(asking))
        assert all(_workers(node).values())
    assert _reaches(node, WWW[0])


# -- resolvers ---------------------------------------------------------------------------------------------------------

ASKED = ("www.fixed.test", "other.fixed.test", "large.fixed.test", REFUSED)
ADDRESSES: dict[str, Sequence[str]] = {
    "www.fixed.test": sorted(WWW),
    "other.fixed.test": [OTHER],
    "large.fixed.test": sorted(LARGE),
}


def configure(
    node: Node, pod: str, server: str, options: str = "", *, search: str = ".", timeout_s: int = UNWAITED_S
) -> None:
    """/etc/resolv.conf of what is started in the pod from now on.

    Resolvers wait for longer than the tests do: whoever hears nothing and asks again is found out by that.
    """
    text = f"nameserver {server}\nsearch {search}\noptions timeout:{timeout_s} {options}"
    (node.lab.state.etc(pod) / "resolv.conf").write_text(f"{text}\n", encoding="ascii")


def resolve(node: Node, pod: str, *command: str, family: int = 0, names: Sequence[str] = ASKED) -> list[dict[str, Any]]:
    """What a program of `dns_clients` tells, in the order of the names."""
    done = node.lab.exec(pod, [*command, str(family), str(HTTP), *names], cwd=ROOT, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_told(told: Sequence[dict[str, Any]], error: str) -> None:
    """Names are found, what they name is open, and the refused one fails like this."""
    assert [each["name"] for each in told] == list(ASKED)
    *found, refused = told
    assert {each["name"]: sorted(each["addresses"]) for each in found} == ADDRESSES
    assert [each["name"] for each in found if not each["reached"]] == []
    assert not refused["addresses"]
    assert error in refused["error"]


PYTHON = (sys.executable, "-m", "tests.lab.dns_clients")
GLIBC = {
    "": "Temporary failure in name resolution",
    "single-request-reopen": "Temporary failure in name resolution",
    "use-vc": "Name or service not known",
    "edns0": "Temporary failure in name resolution",
}
"""Its options, and what it says of a refusal then."""

AIOHTTP = {"threaded": GLIBC[""], "cares": "DNS server refused query"}


@pytest.mark.parametrize("options", GLIBC)
def test_glibc(node: Node, server: str, options: str) -> None:
    configure(node, CLIENT, server, options)
    check_told(resolve(node, CLIENT, *PYTHON, "libc"), GLIBC[options])


def test_aiohttp(node: Node, server: str) -> None:
    """The resolver that is glibc's, and the one that is c-ares."""
    configure(node, CLIENT, server)
    told = resolve(node, CLIENT, *PYTHON, ",".join(AIOHTTP))
    for resolver, error in AIOHTTP.items():
        check_told([each for each in told if each["by"] == resolver], error)


@pytest.fixture(scope="module")
def musl(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("musl")
    (folder / "resolve.c").write_text(MUSL, encoding="ascii")
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", folder / "resolve", folder / "resolve.c"], check=True)
    return str(folder / "resolve")


def test_musl(node: Node, server: str, musl: str) -> None:
    """Debian's does not ask over TCP: of what is truncated it takes what is there."""
    for pod in (CLIENT, FREE):
        configure(node, pod, server)
    names = tuple(ADDRESSES)
    (www, other, large), (*_, direct) = (resolve(node, pod, musl, names=names) for pod in (CLIENT, FREE))
    assert sorted(www["addresses"]) == ADDRESSES["www.fixed.test"]
    assert other["addresses"] == [OTHER]
    assert www["reached"]
    assert other["reached"]
    assert (len(large["addresses"]), large["error"]) == (len(direct["addresses"]), direct["error"])
    assert large["reached"] == bool(large["addresses"])


# -- what only refusals by NXDOMAIN can do -----------------------------------------------------------------------------

SEARCH = "refused.test fixed.test"
NDOTS = "ndots:5"


def test_a_refusal_ends_a_search(node: Node, musl: str) -> None:
    """To musl it is not even an answer: it waits for a better one, by default for 5 s."""
    server = address_of(node, "knotd", 4)
    configure(node, CLIENT, server, NDOTS, search=SEARCH)
    glibc, cares = resolve(node, CLIENT, *PYTHON, "libc,cares", names=["www"])
    assert glibc["error"] == GLIBC[""]
    assert cares["error"] == AIOHTTP["cares"]
    configure(node, CLIENT, server, NDOTS, search=SEARCH, timeout_s=1)
    [told] = resolve(node, CLIENT, musl, names=["www"])
    assert told["error"] == "Try again"


@pytest.fixture(scope="module")
def softly(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The same, but with refusals that are NXDOMAIN."""
    folder = tmp_path_factory.mktemp("dns")
    settings = {"workers": WORKERS, "tofqdns-dns-reject-response-code": "nameError"}
    with dns_lab(f"{lab_name}-n", folder / "lab", WORKLOADS, POLICY, settings) as found:
        open_world(found.lab)
        server = [address_of(found, "knotd", ip) for ip in (4, 6)]
        dns_servers.start(found.lab, "knotd", SERVERS["knotd"][1], server, folder / "knotd")
        yield found


RESOLVERS = {"libc": "Name or service not known", "cares": "Domain name not found", "musl": "Name does not resolve"}
"""And what they say of a name that does not exist."""


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_search_goes_on_behind_an_nxdomain(softly: Node, musl: str, resolver: str, ip: int) -> None:
    command = [musl] if resolver == "musl" else [*PYTHON, resolver]
    configure(softly, CLIENT, address_of(softly, "knotd", ip), NDOTS, search=SEARCH)
    www, refused = resolve(softly, CLIENT, *command, names=["www", REFUSED])
    assert sorted(www["addresses"]) == sorted(WWW)
    assert www["reached"]
    assert refused["error"] == RESOLVERS[resolver]
