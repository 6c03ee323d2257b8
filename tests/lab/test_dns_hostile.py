"""A DNS server that lies, and clients that do: nothing opens that should not, and nothing breaks."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from proxy.lab.lookup import Outcome, query, question, read_answer
from tests.lab.dns_hostile import (
    BROKEN,
    FORGED,
    LATE_S,
    OPENS_GOOD,
    OPENS_NOTHING,
    TCP_BROKEN,
    TCP_OPENS_GOOD,
)
from tests.lab.dns_servers import open_world
from tests.lab.dns_support import ask, dns_entry, dns_lab, is_open, names_entry, pods, policy
from tests.lab.support import Node, eventually

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("unharmed")]

HERE = Path(__file__).parent
SERVER, SOMEBODY_ELSE = "192.0.2.53", "192.0.2.54"
CLIENT, BYSTANDER = "shop/client", "shop/bystander"
TIMEOUT_S = 1
SILENCE_S = 0.8
WORKLOADS = (
    pods("client")
    + f"""\
---
kind: Pod
apiVersion: v1
metadata:
  name: bystander
  namespace: shop
  labels: {{app: bystander}}
  annotations: {{lab.penstock.io/run: exec python -m proxy.lab.echo --port 80}}
spec: {{containers: [{{ports: [{{containerPort: 80}}]}}]}}
---
kind: World
apiVersion: lab.penstock.io/v1
metadata:
  annotations:
    lab.penstock.io/run.dns: exec {sys.executable} -P {HERE}/dns_hostile.py {SERVER} {SOMEBODY_ELSE}
spec:
  hosts:
  - {{name: hostile.test, addresses: [{SERVER}]}}
  - {{name: else.hostile.test, addresses: [{SOMEBODY_ELSE}]}}
"""
)
POLICY = policy(
    "client",
    dns_entry("[{matchPattern: '**.hostile.test'}]", f"toCIDR: [{SERVER}/32]"),
    names_entry("[{matchPattern: '**.hostile.test'}]", 80),
)
OVER_TCP = ("wrong-id", "wrong-question", "wrong-type", "no-response", "garbage", "short")
"""Of the forged ones those that can be told from the message alone."""
NOBODY_ANSWERED = {"servfail", "truncated"}
"""After some forgeries a client is sent to TCP, where nobody can forge."""
_numbers = count(1)


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = {"dns-timeout-s": TIMEOUT_S}
    with dns_lab(lab_name, tmp_path_factory.mktemp("dns") / "lab", WORKLOADS, POLICY, settings) as found:
        open_world(found.lab)
        eventually(lambda: "listening" in found.lab.log("world", "dns"))
        yield found


@pytest.fixture
def unharmed(node: Node) -> Iterator[None]:
    """Afterwards the worker is the same, and serves."""
    workers = _workers(node)
    yield
    assert _workers(node) == workers
    good, evil = _fresh()
    assert _ask(node, "plain", good, evil).addresses == (good,)


def _workers(node: Node) -> list[int]:
    return [int(worker["pid"]) for worker in node.lab.agent.status()["proxy"]["workers"]]


def _fresh() -> tuple[str, str]:
    """A good address and an evil one that nobody has heard of yet."""
    number = next(_numbers)
    return f"198.18.100.{number}", f"198.18.101.{number}"


def _ask(node: Node, play: str, good: str, evil: str, *, tcp: bool = False) -> Outcome:
    name = ".".join((play, good.replace(".", "-"), evil.replace(".", "-"), "hostile.test"))
    return ask(node, CLIENT, name, server=SERVER, tcp=tcp)


def _is_open(node: Node, address: str) -> bool:
    return is_open(node, CLIENT, address, 80, SILENCE_S)


# -- over UDP ----------------------------------------------------------------------------------------------------------


def test_an_honest_answer_opens(node: Node) -> None:
    good, evil = _fresh()
    assert not _is_open(node, good)
    assert _ask(node, "plain", good, evil).addresses == (good,)
    assert _is_open(node, good)
    assert not _is_open(node, evil)


@pytest.mark.parametrize("play", FORGED)
def test_what_is_no_answer_to_the_question_is_none(node: Node, play: str) -> None:
    good, evil = _fresh()
    assert _ask(node, play, good, evil).outcome in NOBODY_ANSWERED
    if play == "late":
        time.sleep(LATE_S)
    assert not _is_open(node, evil)


@pytest.mark.parametrize("play", [play for play in FORGED if play != "late"])
def test_the_answer_behind_a_forgery_counts(node: Node, play: str) -> None:
    good, evil = _fresh()
    found = _ask(node, f"{play}-then-good", good, evil)
    if found.outcome == "truncated" and play == "many-forgeries":
        found = _ask(node, "plain", good, evil, tcp=True)
    assert found.addresses == (good,)
    assert _is_open(node, good)
    assert not _is_open(node, evil)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("play", BROKEN)
def test_a_broken_answer_is_a_failure(node: Node, play: str, tcp: bool) -> None:
    good, evil = _fresh()
    assert _ask(node, play, good, evil, tcp=tcp).outcome == "servfail"
    assert not _is_open(node, evil)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("play", OPENS_NOTHING)
def test_records_that_are_not_the_names_own_open_nothing(node: Node, play: str, tcp: bool) -> None:
    good, evil = _fresh()
    assert _ask(node, play, good, evil, tcp=tcp).outcome in {"answers", "servfail", "nxdomain"}
    assert not _is_open(node, evil)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("play", OPENS_GOOD)
def test_only_the_names_own_records_open(node: Node, play: str, tcp: bool) -> None:
    good, evil = _fresh()
    found = _ask(node, play, good, evil, tcp=tcp)
    assert good in found.addresses
    assert _is_open(node, good)
    assert not _is_open(node, evil)


# -- over TCP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("play", TCP_OPENS_GOOD)
def test_answers_over_tcp(node: Node, play: str) -> None:
    good, evil = _fresh()
    if play in ("truncated", "many"):
        assert _ask(node, play, good, evil).outcome == "truncated"
        assert _is_open(node, good) is (play == "truncated")
        assert not _is_open(node, evil)
    assert _ask(node, play, good, evil, tcp=True).addresses[:1] == (good,)
    assert _is_open(node, good)
    assert not _is_open(node, evil)


@pytest.mark.parametrize("play", [*TCP_BROKEN, *OVER_TCP])
def test_a_server_that_breaks_the_connection(node: Node, play: str) -> None:
    good, evil = _fresh()
    assert _ask(node, play, good, evil, tcp=True).outcome in {"servfail", "reset", "timeout"}
    assert not _is_open(node, evil)


# -- rebinding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("play", ["plain", "beside-the-chain"])
def test_no_name_opens_the_cluster(node: Node, play: str) -> None:
    """Neither itself nor as a CNAME, and the pod next door serves everybody else."""
    pod, gateway = node.address(BYSTANDER, 4), f"{node.lab.state.v4.rpartition('.')[0]}.1"
    assert is_open(node, BYSTANDER, pod, 80)
    for inner in (pod, gateway, node.address("kube-system/kube-dns", 4)):
        assert inner in _ask(node, play, inner, "198.18.101.254").addresses
        assert not _is_open(node, inner), inner


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"])
def test_no_name_opens_what_is_protected(node: Node, address: str) -> None:
    assert _ask(node, "plain", address, "198.18.101.254").outcome in {"answers", "servfail"}
    if address == "169.254.169.254":
        node.lab.exec("world", ["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
        assert not _is_open(node, address)


# -- clients -----------------------------------------------------------------------------------------------------------


def _header(number: int, flags: int = 0x0100, *counts: int) -> bytes:
    return struct.pack(">6H", number, flags, *(counts or (1, 0, 0, 0)))


GOOD_QUESTION = question("plain.198-18-100-250.198-18-101-250.hostile.test")
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
NAME = GOOD_QUESTION[:-4]
MALFORMED: dict[str, tuple[bytes, int | None]] = {
    "no-question": (_header(1, 0x0100, 0, 0, 0, 0), 1),
    "two-questions": (_header(2, 0x0100, 2, 0, 0, 0) + GOOD_QUESTION * 2, 1),
    "a-response": (_header(3, 0x8180) + GOOD_QUESTION, None),
    "status": (_header(4, 0x1000) + GOOD_QUESTION, 4),
    "notify": (_header(5, 0x2000) + GOOD_QUESTION, 4),
    "update": (_header(6, 0x2800) + GOOD_QUESTION, 4),
    "chaos": (_header(7) + NAME + struct.pack(">HH", 1, 3), 5),
    "any-class": (_header(8) + NAME + struct.pack(">HH", 1, 255), 5),
    "axfr": (_header(9) + NAME + struct.pack(">HH", 252, 1), 5),
    "ixfr": (_header(10) + NAME + struct.pack(">HH", 251, 1), 5),
    "answers-in-a-query": (_header(11, 0x0100, 1, 1, 0, 0) + GOOD_QUESTION + b"\xc0\x0c" + bytes(10), 1),
    "trailing-bytes": (_header(12) + GOOD_QUESTION + b"xyz", 1),
    "two-opts": (_header(13, 0x0100, 1, 0, 0, 2) + GOOD_QUESTION + OPT * 2, 1),
    "a-pointer-to-itself": (_header(14) + b"\xc0\x0c" + struct.pack(">HH", 1, 1), 1),
    "a-label-of-64": (_header(15) + b"\x40" + b"a" * 64 + b"\0" + struct.pack(">HH", 1, 1), 1),
    "a-name-of-256": (_header(16) + (b"\x3f" + b"a" * 63) * 4 + b"\0" + struct.pack(">HH", 1, 1), 1),
    "half-a-question": (_header(17) + GOOD_QUESTION[:-6], 1),
    "half-a-header": (_header(18)[:8], None),
    "nothing": (b"", None),
    "cut-short-flag": (_header(19, 0x0300) + GOOD_QUESTION, 1),
}


def _sends(node: Node, message: bytes, *, tcp: bool) -> bytes:
    """What comes back; nothing if that is silence, or the end."""
    with node.lab.socket(CLIENT, kind=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as connection:
        connection.settimeout(SILENCE_S)
        connection.connect((SERVER, 53))
        connection.sendall(len(message).to_bytes(2, "big") + message if tcp else message)
        try:
            return connection.recv(512)[2 if tcp else 0 :]
        except (TimeoutError, ConnectionError):
            return b""


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_queries_do_not_get_to_the_server(node: Node, what: str, tcp: bool) -> None:
    message, rcode = MALFORMED[what]
    before = node.lab.log("world", "dns").count("\n")
    back = _sends(node, message, tcp=tcp)
    if rcode is None:
        assert back == b""
    elif back or not tcp:  # a connection may end instead
        assert back[:2] == message[:2]
        assert (back[2] >> 7, back[3] & 15) == (1, rcode)
    assert node.lab.log("world", "dns").count("\n") == before
    assert not _is_open(node, "198.18.100.250")


@pytest.mark.parametrize(
    ("label", "wire"),
    [
        ("a dot in a label", b"\x08evil.org\x07hostile\x04test\0"),
        ("a zero", b"\x03a\0b\x07hostile\x04test\0"),
        ("spaces", b"\x03a b\x07hostile\x04test\0"),
        ("high bytes", b"\x02\xff\xfe\x07hostile\x04test\0"),
    ],
)
def test_odd_labels_are_compared_label_by_label(node: Node, label: str, wire: bytes) -> None:
    """They are below hostile.test, or they are not; what they look like in writing does not matter."""
    back = _sends(node, query(wire + b"\0\1\0\1", 77), tcp=False)
    assert read_answer(back).outcome in {"answers", "refused"}, label


@pytest.mark.parametrize("wire", [b"\x0ea.hostile.test\0", b"\x01a\x0chostile.test\0", b"\x09a.hostile\x04test\0"])
def test_dots_in_labels_do_not_make_a_name_look_like_another(node: Node, wire: bytes) -> None:
    assert read_answer(_sends(node, query(wire + b"\0\1\0\1", 78), tcp=False)).outcome == "refused"


def test_a_flood_of_silent_queries_leaves_others_their_answers(node: Node) -> None:
    with node.lab.socket(CLIENT, kind=socket.SOCK_DGRAM) as flood:
        flood.connect((SERVER, 53))
        asked = question("silence.0-0-0-0.0-0-0-0.hostile.test")
        for number in range(6000):
            flood.send(query(asked, number))
        time.sleep(2 * TIMEOUT_S)
    good, evil = _fresh()
    assert _ask(node, "plain", good, evil).addresses == (good,)
