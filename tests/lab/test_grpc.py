"""gRPC: grpcio at both ends, and a policy that allows the methods of one service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.flows.model import Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from tests.lab.support import Node, eventually

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
PORT = 50051
WORKLOADS = f"""
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations: {{lab.penstock.io/run: exec {sys.executable} -P {HERE}/grpc_echo.py {PORT}}}
spec: {{containers: [{{ports: [{{containerPort: {PORT}}}]}}]}}
---
kind: Pod
apiVersion: v1
metadata: {{name: client, namespace: shop, labels: {{app: client}}}}
"""
POLICY = f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - toPorts:
    - ports: [{{port: "{PORT}", protocol: TCP}}]
      rules: {{http: [{{method: POST, path: "/echo[.]Echo/.*"}}]}}
"""
SHAPES = {"unary_unary": "Unary", "stream_unary": "Collect", "unary_stream": "Split", "stream_stream": "Chat"}
STATUSES = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
"""Of the numbers 1 to 16."""
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. Bytes as Latin-1; of metadata those that begin with `x-`."""

    code: str = "OK"
    details: str = ""
    messages: tuple[str, ...] = ()
    initial: Metadata = ()
    trailing: Metadata = ()


DENIED = Outcome("PERMISSION_DENIED", "Access denied")


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as `grpc_caller` is told of it."""

    shape: str
    method: str
    messages: tuple[str, ...] = ("one", "two")
    metadata: Metadata = ()
    timeout: float | None = None
    channel: int = 0
    endless: bool = False

    def order(self) -> dict[str, Any]:
        return {"do": "call", **{name: getattr(self, name) for name in self.__slots__}}


class Caller:
    """A gRPC client in the client's pod that does what it is told."""

    def __init__(self, node: Node, address: str, *options: str, channels: int = 1) -> None:
        command = [sys.executable, "-P", str(HERE / "grpc_caller.py"), address, str(channels), *options]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = node.lab.popen("shop/client", command, text=True, **pipes)

    def ask(self, **order: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def call(self, call: Call) -> Outcome:
        return outcome(self.ask(**call.order()))

    def many(self, calls: list[Call]) -> list[Outcome]:
        return [outcome(told) for told in self.ask(do="many", orders=[call.order() for call in calls])]

    def talk(self, message: str) -> str:
        return str(self.ask(do="talk", message=message))


def outcome(told: dict[str, Any]) -> Outcome:
    initial, trailing = (tuple((key, value) for key, value in told[name]) for name in ("initial", "trailing"))
    return Outcome(told["code"], told["details"] or "", tuple(told["messages"]), initial, trailing)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "server.yaml").write_text(POLICY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def node(lab_name: str, policies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    workloads = tmp_path_factory.mktemp("workloads") / "workloads.yaml"
    workloads.write_text(WORKLOADS, encoding="utf-8")
    with Lab.up(lab_name, [workloads], policies=policies, progress=Progress(quiet=True)) as lab:
        yield Node(lab)


@pytest.fixture(scope="module")
def start(node: Node) -> Iterator[Callable[..., Caller]]:
    """Starts further clients; all end with the module."""
    started: list[Caller] = []

    def one(*options: str, channels: int = 1, ip: int = 4) -> Caller:
        address = node.address("shop/server", ip)
        target = f"ipv6:[{address}]:{PORT}" if ip == 6 else f"ipv4:{address}:{PORT}"
        started.append(Caller(node, target, *options, channels=channels))
        return started[-1]

    yield one
    for caller in started:
        caller.process.communicate()
        assert caller.process.returncode == 0


@pytest.fixture(scope="module")
def caller(start: Callable[..., Caller]) -> Caller:
    """The client of most tests, with one connection for all of them."""
    return start()


def connections(node: Node) -> dict[str, int]:
    """The client pod's connections to the server: local end → bytes sent."""
    done = node.lab.exec("shop/client", ["ss", "-HtniO", "state", "established", "dport", "=", f":{PORT}"])
    rows = re.findall(r"^\S+ +\S+ +(\S+) .*bytes_sent:(\d+)", done.stdout, re.MULTILINE)
    return {local: int(sent) for local, sent in rows}


def secret_calls(node: Node) -> int:
    """How many calls have reached the service that is for nobody."""
    return node.server_log().count("echo.Secret called")


# -- what is allowed -------------------------------------------------------------------------------------------------


def expected(call: Call) -> Outcome:
    """What the server makes of it, if the policy lets it."""
    if "Secret" in call.method:
        return DENIED
    one = call.messages[0]
    answers = {
        "unary_unary": (one,),
        "stream_unary": ("".join(call.messages),),
        "unary_stream": tuple(one.split()),
        "stream_stream": call.messages,
    }
    last = tuple((key.replace("x-", "x-last-", 1), value) for key, value in call.metadata)
    return Outcome(messages=answers[call.shape], initial=call.metadata, trailing=last)


@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_every_shape_get_their_answers(start: Callable[..., Caller], shape: str, ip: int) -> None:
    call = Call(shape, f"/echo.Echo/{SHAPES[shape]}", ("some words", "", "and more"))
    assert start(ip=ip).call(call) == expected(call)


def test_metadata_goes_both_ways_binary_too(caller: Caller) -> None:
    metadata = (
        ("x-text", "some: text, with = signs"),
        ("x-data-bin", bytes(range(256)).decode("latin-1")),
        ("x-e", ""),
    )
    for shape, name in SHAPES.items():
        call = Call(shape, f"/echo.Echo/{name}", metadata=metadata)
        assert caller.call(call) == expected(call)


@pytest.mark.parametrize("number", range(1, 17), ids=lambda number: STATUSES[number - 1])
def test_a_status_of_the_server_arrives_with_its_message_and_metadata(caller: Caller, number: int) -> None:
    details = 'größer als 100 %, "in quotes", 漢字\nand a second line'
    asked = json.dumps({"code": number, "details": details})
    got = caller.call(Call("unary_unary", "/echo.Echo/Fail", (asked,), (("x-why-bin", "\x00\xff"),)))
    assert got == Outcome(
        STATUSES[number - 1], details, (), (("x-why-bin", "\x00\xff"),), (("x-last-why-bin", "\x00\xff"),)
    )


def test_a_method_that_the_server_does_not_have_is_its_own_to_refuse(caller: Caller) -> None:
    got = caller.call(Call("unary_unary", "/echo.Echo/Nothing"))
    assert (got.code, got.details) == ("UNIMPLEMENTED", "Method not found!")


def test_the_server_learns_how_long_the_client_waits(caller: Caller) -> None:
    got = caller.call(Call("unary_unary", "/echo.Echo/Deadline", timeout=100))
    assert 90 < float(got.messages[0]) < 110
    assert caller.call(Call("unary_unary", "/echo.Echo/Deadline")).messages == ("None",)


def test_a_deadline_that_passes_ends_the_call_at_both_ends(node: Node, caller: Caller) -> None:
    got = caller.call(Call("unary_unary", "/echo.Echo/Wait", ("too long",), timeout=0.5))
    assert got.code == "DEADLINE_EXCEEDED"
    eventually(lambda: "echo.Echo Wait cancelled too long" in node.server_log())
    assert caller.call(Call("unary_unary", "/echo.Echo/Unary")).code == "OK"


def test_the_server_notices_that_a_call_is_cancelled(node: Node, caller: Caller) -> None:
    caller.ask(**(Call("unary_unary", "/echo.Echo/Wait", ("for ever",)).order() | {"do": "begin"}))
    eventually(lambda: "echo.Echo Wait for ever" in node.server_log())
    assert caller.ask(do="cancel") is True
    eventually(lambda: "echo.Echo Wait cancelled for ever" in node.server_log())
    assert caller.call(Call("unary_unary", "/echo.Echo/Unary")).code == "OK"


def test_the_server_notices_that_a_stream_is_cancelled(node: Node, caller: Caller) -> None:
    caller.ask(do="open", method="/echo.Echo/Chat")
    assert caller.talk("hello") == "hello"
    ended = node.server_log().count("echo.Echo Chat ended")
    assert caller.ask(do="cancel") is True
    eventually(lambda: node.server_log().count("echo.Echo Chat ended") > ended)
    assert caller.call(Call("unary_unary", "/echo.Echo/Unary")).code == "OK"


def test_messages_of_many_mebibytes_arrive_whole(caller: Caller) -> None:
    large = bytes(range(256)).decode("latin-1") * (4 << 12)
    for shape in ("unary_unary", "stream_unary", "stream_stream"):
        call = Call(shape, f"/echo.Echo/{SHAPES[shape]}", (large, large[::-1], "small"))
        assert caller.call(call) == expected(call)


# -- what is denied --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_denied_call_gets_a_status_and_never_reaches_the_server(node: Node, caller: Caller, shape: str) -> None:
    before = secret_calls(node)
    assert caller.call(Call(shape, f"/echo.Secret/{SHAPES[shape]}")) == DENIED
    assert caller.call(Call(shape, f"/echo.Echo/{SHAPES[shape]}")).code == "OK"
    assert secret_calls(node) == before


@pytest.mark.parametrize(
    "method", ["/echo.Echo", "/echo.echo/Unary", "/echo.Echoes/Unary", "/Echo/Unary", "/other/echo.Echo/Unary"]
)
def test_a_method_that_only_looks_like_an_allowed_one_is_denied(caller: Caller, method: str) -> None:
    assert caller.call(Call("unary_unary", method)) == DENIED


def test_a_method_with_an_encoded_slash_is_an_invalid_argument(caller: Caller) -> None:
    assert caller.call(Call("unary_unary", "/echo.Echo%2FUnary")).code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_a_client_in_the_middle_of_its_stream_learns_that_it_is_denied(node: Node, caller: Caller, shape: str) -> None:
    """What it sent takes nothing from the connection's window: the calls after it have all of it."""
    before, calls = set(connections(node)), secret_calls(node)
    for _ in range(30):
        assert caller.call(Call(shape, f"/echo.Secret/{SHAPES[shape]}", endless=True)) == DENIED
    large = "x" * (1 << 20)
    assert caller.call(Call("unary_unary", "/echo.Echo/Unary", (large,))).messages == (large,)
    assert set(connections(node)) == before
    assert secret_calls(node) == calls


def test_a_denied_call_is_on_record_with_the_rule_that_did_not_match(node: Node, caller: Caller) -> None:
    assert caller.call(Call("unary_unary", "/echo.Secret/OnRecord")) == DENIED
    record = eventually(
        lambda: [flow for flow in node.lab.flows() if "/echo.Secret/OnRecord" in flow.summary and not flow.is_reply]
    )[-1]
    assert record.verdict is Verdict.DROPPED
    address = node.address("shop/server", 4)
    assert record.summary == f"HTTP/2 POST http://{address}:{PORT}/echo.Secret/OnRecord"
    assert record.deciding is not None
    assert 'path "/echo.Secret/OnRecord" does not match "/echo[.]Echo/.*"' in record.deciding.reason


# -- many, and for long ----------------------------------------------------------------------------------------------


def test_a_thousand_calls_at_once_each_get_their_own_outcome(node: Node, start: Callable[..., Caller]) -> None:
    """On four connections, of all shapes, a third of them denied, each with a header of its own."""
    before, secret = set(connections(node)), secret_calls(node)
    shapes = list(SHAPES.items())
    calls = []
    for number in range(1000):
        shape, name = shapes[number // 4 % 4]
        service = "Secret" if number % 3 == 0 else "Echo"
        metadata = (("x-number", str(number)), ("x-data-bin", f"\x00{number}"))
        messages = (f"first of {number}", f"second of {number}", "x" * number)
        calls.append(Call(shape, f"/echo.{service}/{name}", messages, metadata, channel=number % 4))
    caller = start(channels=4)
    for _ in range(2):
        outcomes = caller.many(calls)
        for call, got in zip(calls, outcomes, strict=True):
            assert got == expected(call), call
    assert len(set(connections(node)) - before) == 4
    assert secret_calls(node) == secret


def test_pings_keep_a_silent_stream_alive(node: Node, start: Callable[..., Caller]) -> None:
    before = set(connections(node))
    keepalive = {
        "keepalive_time_ms": 100,
        "keepalive_timeout_ms": 5000,
        "keepalive_permit_without_calls": 1,
        "http2.max_pings_without_data": 0,
    }
    caller = start(*(f"grpc.{name}={value}" for name, value in keepalive.items()))
    caller.ask(do="open", method="/echo.Echo/Chat")
    assert caller.talk("before") == "before"
    ((local, sent),) = ((key, value) for key, value in connections(node).items() if key not in before)
    # A PING has 17 bytes, and nothing else is sent.
    eventually(lambda: connections(node)[local] >= sent + 3 * 17)
    assert caller.talk("after") == "after"
    assert set(connections(node)) - before == {local}


def test_a_new_policy_is_for_new_calls_and_lets_an_open_stream_go_on(
    node: Node, caller: Caller, policies: Path, restored: Callable[[str], None]
) -> None:
    caller.ask(do="open", method="/echo.Echo/Chat", metadata=[["x-name", "open"]])
    assert caller.talk("before") == "before"
    before = set(connections(node))
    text = (policies / "server.yaml").read_text(encoding="utf-8")
    again = Call("stream_stream", "/echo.Echo/Chat")
    secret = Call("unary_unary", "/echo.Secret/Unary")
    restored(text.replace("/echo[.]Echo/.*", "/echo[.]Secret/Unary"))
    eventually(lambda: caller.call(again) == DENIED)
    assert caller.call(secret).code == "OK"
    for _ in range(10):
        assert caller.talk("still there") == "still there"
    restored(text)
    eventually(lambda: caller.call(again).code == "OK")
    assert caller.call(secret) == DENIED
    assert caller.talk("after") == "after"
    end = outcome(caller.ask(do="hang_up"))
    assert end == Outcome(initial=(("x-name", "open"),), trailing=(("x-last-name", "open"),))
    assert set(connections(node)) == before
