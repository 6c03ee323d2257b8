"""However the bytes come, the result is the same; and however many, memory stays flat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.support import Node, request_bytes

pytestmark = pytest.mark.lab
GIB = 1 << 30
MAX_GROWTH_KIB = 64 << 10


@pytest.mark.parametrize("ip", [4, 6])
def test_a_request_byte_by_byte(node: Node, ip: int) -> None:
    sent = (
        request_bytes("GET", "/public") + request_bytes("POST", "/public", b"body") + request_bytes("GET", "/public/2")
    )
    with node.http(ip) as http:
        for index in range(len(sent)):
            http.send(sent[index : index + 1])
        answers = [http.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 403, 200]
    assert json.loads(answers[2].body)["path"] == "/public/2"


def test_a_response_byte_by_byte(node: Node) -> None:
    with node.http() as http:
        http.send(request_bytes("GET", "/drip") + request_bytes("GET", "/denied") + request_bytes("GET", "/public"))
        answers = [http.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 403, 200]
    assert json.loads(answers[0].body)["path"] == "/drip"


def test_every_split_of_two_requests(node: Node) -> None:
    sent = request_bytes("POST", "/upload", b"hello") + request_bytes("GET", "/nothing")
    for at in range(1, len(sent)):
        with node.http() as http:
            http.send(sent[:at])
            http.send(sent[at:])
            first, second = http.answer(), http.answer()
        assert json.loads(first.body)["body"]["length"] == 5, at
        assert second.status == 403, at


@pytest.mark.parametrize("ip", [4, 6])
def test_pipelined_requests_are_answered_in_order(node: Node, ip: int) -> None:
    """The refusal waits for the answers that are due before it, slow ones too, and the refused one goes nowhere."""
    paths = ["/drip", "/public/1", f"/denied-{ip}", "/bytes/200000", "/public/2"]
    with node.http(ip) as http:
        http.send(b"".join(request_bytes("GET", path) for path in paths))
        answers = [http.answer() for _ in paths]
    assert [answer.status for answer in answers] == [200, 200, 403, 200, 200]
    assert json.loads(answers[1].body)["path"] == "/public/1"
    assert len(answers[3].body) == 200_000
    assert json.loads(answers[4].body)["path"] == "/public/2"
    assert not any(f"/denied-{ip}" in line for line in node.server_log())


def test_the_body_of_a_refused_request_goes_nowhere(node: Node) -> None:
    smuggled = request_bytes("GET", "/public/from-a-body")
    with node.http() as http:
        assert http.request("POST", "/denied", smuggled * 50).status == 403
        assert http.request("GET", "/public").status == 200
    assert not any("from-a-body" in line for line in node.server_log())


def high_water(node: Node) -> dict[int, int]:
    """Peak memory (KiB) of the agent and each worker."""
    peaks = {}
    for process in node.agent_processes():
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                peaks[process.pid] = int(line.split()[1])
    return peaks


def assert_flat(before: dict[int, int], after: dict[int, int]) -> None:
    assert before.keys() == after.keys()
    growth = {pid: after[pid] - before[pid] for pid in before}
    assert max(growth.values()) < MAX_GROWTH_KIB, growth


def test_a_gibibyte_down(node: Node) -> None:
    before = high_water(node)
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", f"http://server/bytes/{GIB}"]
    assert node.lab.exec("shop/client", command).stdout == f"200 {GIB}"
    assert_flat(before, high_water(node))


def test_a_gibibyte_up(node: Node) -> None:
    before = high_water(node)
    upload = f"head -c {GIB} /dev/zero | curl -sS -X POST -T - -H 'Expect:' http://server/upload"
    facts = json.loads(node.lab.exec("shop/client", ["sh", "-c", upload]).stdout)
    assert facts["body"]["length"] == GIB
    assert_flat(before, high_water(node))
