"""The protocol corpus once more (see tests/parsers/http1/test_corpus.py), through the real proxy in a lab.

What counts here is what reached the origin: bytes on a connection between two namespaces. A whole request is one that
a server would act on. The head of a request may go ahead of a body that turns out broken; then the origin's connection
must end by a reset.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.origins import Asked, Received, Recorder, conversation, hang_up, listening, until_end
from tests.lab.support import Node
from tests.parsers.http1.test_corpus import (
    ASK,
    OVERRULED_ACCEPT,
    OVERRULED_REJECT,
    OVERRULED_RESPONSES,
    REQUESTS,
    RESPONSES,
    Row,
    _lenience,
    completed,
    need,
    rows_of,
)

pytestmark = pytest.mark.lab

PORTS = range(8001, 8017)
"""One conversation at a time on each, so that what an origin gets belongs to one row. The even ones are IPv4."""
TUNNEL_PORTS = range(8101, 8117)
"""The same, where CONNECT is allowed."""
POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: corpus, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - fromEndpoints: [{{matchLabels: {{app: client}}}}]
    toPorts:
    - ports: [{ports}]
      rules: {{http: [{{}}]}}
    - ports: [{tunnel_ports}]
      rules: {{http: [{{}}, {{method: CONNECT}}]}}
"""


in_pieces = pytest.mark.parametrize("pieces", [1, 7])
"""How the client's bytes come: at once, or so that the proxy reads them in several goes."""


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every request is allowed; CONNECT on ports of its own."""
    folder = tmp_path_factory.mktemp("policies")
    text = POLICY.format(ports=_listed(PORTS), tunnel_ports=_listed(TUNNEL_PORTS))
    (folder / "server.yaml").write_text(text, encoding="utf-8")
    return folder


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(f'{{port: "{port}", protocol: TCP}}' for port in ports)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row: what the client got back (None: one end hangs), and what the origin was asked."""

    row: Row
    client: Received | None
    origin: list[Asked]

    @property
    def targets(self) -> list[bytes]:
        """Targets of the requests that reached the origin whole."""
        return [target for asked in self.origin for target in asked.targets]

    @property
    def unframed(self) -> str:
        """What is wrong with the bytes that the origin was left with; empty if they are whole requests."""
        return "".join(asked.fault for asked in self.origin if not asked.received.was_reset)

    def __str__(self) -> str:
        seen = "\n    ".join(str(asked) for asked in self.origin) or "nothing"
        return f"{self.row.id} ({self.row.why})\n    sent {self.row.data!r}\n    got {self.client}\n    origin: {seen}"


Play = Callable[[Row, int], Awaitable[Outcome]]


def played(rows: Iterable[Row], play: Play, ports: Iterable[int] = PORTS) -> list[Outcome]:
    """Every row through the proxy, as many at a time as there are ports."""
    return asyncio.run(_played(list(rows), play, ports))


async def _played(rows: list[Row], play: Play, ports: Iterable[int]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    left = iter(rows)

    async def work(port: int) -> None:
        for row in left:
            outcomes.append(await play(row, port))

    async with asyncio.TaskGroup() as group:
        for port in ports:
            group.create_task(work(port))
    assert len(outcomes) == len(rows)
    return outcomes


def asking(node: Node, pieces: int) -> Play:
    """The client sends the row's bytes, in so many pieces, and its end."""

    async def play(row: Row, port: int) -> Outcome:
        recorder = Recorder()
        async with listening(node, port, recorder.serve, _ip(port)) as origin:
            client = await conversation(node, port, _cut(row.data, pieces), _ip(port))
            is_over = await origin.settled()
        return Outcome(row, client if is_over else None, recorder.asked)

    return play


def answering(node: Node) -> Play:
    """Three requests are waiting when the origin sends the row's bytes and its end."""

    async def play(row: Row, port: int) -> Outcome:
        asked: list[Asked] = []

        async def serve(connection: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            request = b""
            while len(request) < len(ASK) * 3:
                request += await loop.sock_recv(connection, len(ASK) * 3)
            asked.append(Asked(Received(request)))
            await loop.sock_sendall(connection, whole_head(row.data))
            hang_up(connection)
            await until_end(connection)

        async with listening(node, port, serve, _ip(port)) as origin:
            client = await conversation(node, port, [ASK * 3], _ip(port), half_close=False)
            is_over = await origin.settled()
        return Outcome(row, client if is_over else None, asked)

    return play


def whole_head(data: bytes) -> bytes:
    return data if b"\r\n\r\n" in data else data + b"\r\n"


def whole(data: bytes) -> bytes:
    """The row with a whole head, and the body that it announces: a client that hangs up before is cut off."""
    data = completed(data.removeprefix(b"\r\n"))
    head, _, body = data.partition(b"\r\n\r\n")
    if length := re.search(rb"(?im)^content-length:\s*([0-9]+)", head):
        return data + b"x" * (int(length[1]) - len(body))
    if re.search(rb"(?im)^transfer-encoding:", head):
        rest = b"0\r\n\r\n" if b"\r\n0" not in body else b"\r\n"
        return data if body.endswith(b"\r\n\r\n") else data + rest
    return data


def _ip(port: int) -> int:
    return 6 if port % 2 else 4


def _cut(data: bytes, pieces: int) -> list[bytes]:
    step = max(1, -(-len(data) // pieces))
    return [data[at : at + step] for at in range(0, len(data), step)]


def assert_none(outcomes: Iterable[Outcome], fault: Callable[[Outcome], str]) -> None:
    """Fail with a paragraph for each row that has a fault. Whatever the row, a hang is one."""
    faults = [(outcome, "it hangs" if outcome.client is None else fault(outcome)) for outcome in outcomes]
    if found := [f"{text}: {outcome}" for outcome, text in faults if text]:
        pytest.fail(f"{len(found)} of {len(faults)} rows\n\n" + "\n\n".join(found), pytrace=False)


def test_the_corpus_is_there() -> None:
    need("http1_requests.jsonl")
    need("http1_responses.jsonl")
    assert len(REQUESTS) == 2035
    assert len(RESPONSES) == 53
    labels = ("reject", "one_request_or_reject", "reject_or_normalise", "accept", "either", "any")
    assert len(rows_of(*labels)) == len(REQUESTS)


@in_pieces
def test_what_is_to_be_rejected_does_not_reach_the_origin(node: Node, pieces: int) -> None:
    need("http1_requests.jsonl")

    def fault(outcome: Outcome) -> str:
        if outcome.row.id in OVERRULED_REJECT:
            return outcome.unframed
        if outcome.targets:
            return "a request reached the origin"
        assert outcome.client is not None
        if outcome.client.data and not outcome.client.data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            return "the answer is no refusal"
        is_cut_off = all(asked.received.was_reset for asked in outcome.origin if asked.received.data)
        return "" if is_cut_off else "bytes reached the origin, and were not cut off"

    assert_none(played(rows_of("reject"), asking(node, pieces)), fault)


@in_pieces
def test_of_an_ambiguous_stream_one_request_at_most_reaches_the_origin(node: Node, pieces: int) -> None:
    need("http1_requests.jsonl")

    def fault(outcome: Outcome) -> str:
        if len(outcome.targets) > 1 or any(target.startswith(b"/admin") for target in outcome.targets):
            return f"the origin was asked for {outcome.targets}"
        return outcome.unframed

    rows = rows_of("one_request_or_reject", "reject_or_normalise")
    assert_none(played(rows, asking(node, pieces)), fault)


@in_pieces
def test_what_is_to_be_accepted_reaches_the_origin(node: Node, pieces: int) -> None:
    need("http1_requests.jsonl")

    def fault(outcome: Outcome) -> str:
        if why := _lenience(outcome.row):
            return f"no need to overrule: {why}" if outcome.targets and outcome.row.id in OVERRULED_ACCEPT else ""
        return "" if outcome.targets else "no request reached the origin"

    rows = [Row(row.id, row.expect, row.why, whole(row.data)) for row in rows_of("accept")]
    assert_none(played(rows, asking(node, pieces), TUNNEL_PORTS), fault)


@in_pieces
def test_whatever_else_reaches_the_origin_is_framed(node: Node, pieces: int) -> None:
    need("http1_requests.jsonl")
    outcomes = played(rows_of("either", "any"), asking(node, pieces))
    assert_none(outcomes, lambda outcome: outcome.unframed)


def test_answers_reach_the_client_or_are_cut_off(node: Node) -> None:
    need("http1_responses.jsonl")

    def fault(outcome: Outcome) -> str:
        row, client = outcome.row, outcome.client
        assert client is not None
        if not outcome.origin:
            return "the origin was not asked"
        if row.id in OVERRULED_RESPONSES or row.expect == "either":
            return ""
        if row.expect == "reject":
            return "" if client.was_reset or client.data.startswith(b"HTTP/1.1 502 ") else "it looks whole"
        head, blank, _ = whole_head(row.data).partition(b"\r\n\r\n")
        return "" if client.data.startswith(head + blank) else "it did not reach the client"

    assert_none(played(RESPONSES, answering(node)), fault)
