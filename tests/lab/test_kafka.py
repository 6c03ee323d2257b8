"""Kafka rules on the traffic of real clients, with the lab's own broker behind them."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.flows.model import Flow, Kafka, L7Type, Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from proxy.lab.workloads import open_ports
from tests.lab.support import PATIENCE_S, Node, eventually

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
PORT, OTHER = 9092, 9093
SERVER = "shop/server"
LIBRARIES = ("kafka-python", "confluent-kafka", "aiokafka")
TOPIC_REFUSED, GROUP_REFUSED = 29, 30
TOPICS = ["orders", "secret", "large", "restart"]
BROKER = f"{sys.executable} -m proxy.lab.kafka_broker" + "".join(f" --topic {topic}" for topic in TOPICS)
WORKLOADS = f"""
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations: {{lab.penstock.io/run: exec {BROKER}}}
spec: {{containers: [{{ports: [{{containerPort: {PORT}}}]}}]}}
""" + "".join(
    f"---\nkind: Pod\napiVersion: v1\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n"
    for name in ("client", "writer", "reader", "admin")
)
RULES = {
    "client": "[{role: produce, topic: orders}, {role: consume, topic: orders}, {role: produce, topic: large}]",
    "writer": "[{role: produce, topic: orders}, {role: produce, topic: restart}]",
    "reader": "[{role: consume, topic: orders}]",
    "admin": "[{}]",
}
POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
""" + "".join(
    f"""\
  - fromEndpoints: [{{matchLabels: {{app: {name}}}}}]
    toPorts:
    - ports: [{{port: "{PORT}", protocol: TCP}}, {{port: "{OTHER}", protocol: TCP}}]
      rules: {{kafka: {rules}}}
"""
    for name, rules in RULES.items()
)
Start = Callable[..., "Driver"]


class Driver:
    """A Kafka client in a pod."""

    def __init__(self, node: Node, library: str, pod: str, port: int = PORT) -> None:
        self._node = node
        command = [sys.executable, "-P", str(HERE / "kafka_driver.py"), library, f"{node.address(SERVER, 4)}:{port}"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = node.lab.popen(f"shop/{pod}", command, text=True, **pipes)

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def produce(self, topic: str, value: str = "hello", acks: int = 1) -> int | str:
        """Kafka's error code, or a word."""
        code: int | str = self.ask("produce", topic=topic, value=value, acks=acks)["code"]
        return code

    def consume(self, topic: str, group: str = "", value: str = "") -> int | str:
        code: int | str = self.ask("consume", topic=topic, group=group, value=value)["code"]
        return code

    def topics(self) -> list[str]:
        found = self.ask("topics")
        assert found["code"] == 0, found
        return list(found["values"])

    def count(self, topic: str) -> int:
        """How many records the topic ever had."""
        return int(self.ask("end", topic=topic)["values"][0])

    @property
    def connections(self) -> set[int]:
        """Local ports of its open connections."""
        links = {os.readlink(path) for path in Path(f"/proc/{self.process.pid}/fd").iterdir()}
        rows = [
            line.split()
            for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        ]
        return {int(row[1].partition(":")[2], 16) for row in rows if row[3] == "01" and f"socket:[{row[9]}]" in links}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "server.yaml").write_text(POLICY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def node(lab_name: str, policies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    workloads = tmp_path_factory.mktemp("workloads") / "workloads.yaml"
    workloads.write_text(WORKLOADS, encoding="utf-8")
    settings = {"hubble_event_buffer_capacity": 16383, "drain_timeout_s": 5}
    with Lab.up(lab_name, [workloads], policies=policies, settings=settings, progress=Progress(quiet=True)) as lab:
        yield Node(lab)


@pytest.fixture
def start(node: Node) -> Iterator[Start]:
    """Starts clients; all end with the test."""
    with ExitStack() as started:

        def begin(library: str = "kafka-python", pod: str = "client", port: int = PORT) -> Driver:
            driver = Driver(node, library, pod, port)
            started.callback(driver.close)
            return driver

        yield begin


@pytest.fixture(scope="module")
def admin(node: Node) -> Iterator[Driver]:
    """One to whom everything is allowed."""
    driver = Driver(node, "kafka-python", "admin")
    yield driver
    driver.close()


def kafka_flows(node: Node, pod: str, wanted: Callable[[Flow, Kafka], bool]) -> list[Flow]:
    """Records of a pod's requests and their answers."""
    return [
        flow
        for flow in node.lab.flows()
        if flow.l7 is not None
        and flow.l7.kafka is not None
        and pod in (flow.source.pod_name, flow.destination.pod_name)
        and wanted(flow, flow.l7.kafka)
    ]


# -- what is allowed, and what is not --------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_role_allows_works(start: Start, library: str) -> None:
    client = start(library)
    value = f"from {library}"
    assert client.produce("orders", value) == 0
    assert client.consume("orders", value=value) == 0
    assert client.consume("orders", group=f"group-{library}", value=value) == 0
    reader, writer = start(library, "reader"), start(library, "writer")
    assert writer.produce("orders", f"{value}, the writer") == 0
    assert reader.consume("orders", group=f"readers-{library}", value=f"{value}, the writer") == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_forbidden_topic_is_an_error_and_the_connections_live_on(start: Start, admin: Driver, library: str) -> None:
    before = admin.count("secret")
    client = start(library)
    assert client.produce("orders") == 0
    connections = client.connections
    for _ in range(3):
        assert client.produce("secret", "forged") == TOPIC_REFUSED
        assert client.produce("orders") == 0
    assert connections <= client.connections
    assert len(client.connections) <= 2, "one to ask, one to send"
    assert client.consume("secret", group=f"secret-{library}") == TOPIC_REFUSED
    assert admin.count("secret") == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_who_may_only_write_can_not_read(start: Start, library: str) -> None:
    writer = start(library, "writer")
    assert writer.produce("orders") == 0
    assert writer.consume("orders", group=f"writers-{library}") == GROUP_REFUSED
    if library != "aiokafka":  # which asks for offsets again and again
        assert writer.consume("orders") == TOPIC_REFUSED
    assert writer.produce("orders") == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_who_may_only_read_can_not_write(start: Start, admin: Driver, library: str) -> None:
    assert admin.produce("orders") == 0
    before = admin.count("orders")
    reader = start(library, "reader")
    assert reader.produce("orders", "forged") == TOPIC_REFUSED
    connections = reader.connections
    assert reader.produce("orders", "forged") == TOPIC_REFUSED
    assert connections <= reader.connections
    assert reader.consume("orders") == 0
    assert admin.count("orders") == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_allowed_topics_are_listed(start: Start, admin: Driver, library: str) -> None:
    assert start(library, "reader").topics() == ["orders"]
    assert start(library, "writer").topics() == ["orders", "restart"]
    assert set(TOPICS) <= set(admin.topics())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_forbidden_record_that_wants_no_answer_has_no_effect(
    node: Node, start: Start, admin: Driver, library: str
) -> None:
    before = admin.count("orders")
    reader = start(library, "reader")
    for _ in range(3):
        # It is not told: to the client all went well.
        assert reader.produce("orders", "forged", acks=0) == 0
    connections = reader.connections
    eventually(lambda: kafka_flows(node, "reader", lambda flow, kafka: kafka.api_key == "produce" and _dropped(flow)))
    assert reader.produce("orders", "forged", acks=0) == 0
    assert reader.connections == connections
    assert admin.count("orders") == before


def _dropped(flow: Flow) -> bool:
    return flow.verdict is Verdict.DROPPED


@pytest.mark.parametrize("library", LIBRARIES)
def test_twenty_megabytes_in_large_records(start: Start, admin: Driver, library: str) -> None:
    before = admin.count("large")
    done = start(library).ask("bulk", topic="large", count=20, size=990_000)
    assert (done["code"], len(set(done["values"]))) == (0, 20)
    assert admin.count("large") == before + 20


# -- a policy that changes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_new_policy_is_for_the_next_request_of_an_open_connection(
    start: Start, policies: Path, restored: Callable[[str], None], library: str
) -> None:
    text = (policies / "server.yaml").read_text(encoding="utf-8")
    writer = start(library, "writer")
    assert writer.produce("orders") == 0
    connections = writer.connections
    restored(text.replace(RULES["writer"], "[{role: produce, topic: other}]"))
    eventually(lambda: writer.produce("orders") == TOPIC_REFUSED)
    restored(text)
    eventually(lambda: writer.produce("orders") == 0)
    assert connections <= writer.connections


def test_a_policy_that_is_only_tried_out_refuses_nothing_and_reports(
    node: Node, start: Start, policies: Path, restored: Callable[[str], None]
) -> None:
    text = (policies / "server.yaml").read_text(encoding="utf-8")
    named = "metadata: {name: server, namespace: shop"
    revision = node.revision()
    restored(text.replace(named, f'{named}, annotations: {{policy.penstock.io/audit: "true"}}'))
    eventually(lambda: node.revision() > revision)
    reader = start(pod="reader")
    assert reader.produce("secret", "tried out") == 0
    flows = eventually(
        lambda: kafka_flows(
            node, "reader", lambda flow, kafka: kafka.api_key == "produce" and flow.verdict is Verdict.AUDIT
        )
    )
    assert flows[-1].deciding is not None
    assert "Produce is not of role consume" in flows[-1].deciding.reason


# -- what is on record -----------------------------------------------------------------------------------------------


def test_a_refused_record_is_on_record_with_the_rule_that_did_not_match(node: Node, start: Start) -> None:
    # Its client has heard of the topic, or would never get so far as to send a record.
    assert start(pod="reader").produce("orders", "on record") == TOPIC_REFUSED

    def produced(flow: Flow, kafka: Kafka) -> bool:
        return kafka.api_key == "produce" and kafka.topic == "orders" and kafka.client_id.startswith("kafka-python")

    def both() -> list[Flow]:
        found = kafka_flows(node, "reader", produced)
        return found if any(flow.is_reply for flow in found) else []

    flows = eventually(both)
    request = next(flow for flow in reversed(flows) if not flow.is_reply)
    answer = next(flow for flow in reversed(flows) if flow.is_reply)
    assert (request.verdict, answer.verdict) == (Verdict.DROPPED, Verdict.FORWARDED)
    assert request.l7 is not None
    assert request.l7.type is L7Type.REQUEST
    assert answer.l7 is not None
    assert answer.l7.kafka is not None
    assert answer.l7.kafka.error_code == TOPIC_REFUSED
    assert request.deciding is not None
    assert "Produce is not of role consume" in request.deciding.reason
    line = 1 + POLICY[: POLICY.index("app: reader")].count("\n")
    assert f"server.yaml:{line}" in request.deciding.reason
    assert [policy.name for policy in request.ingress_denied_by] == ["server"]


def test_observe_shows_allowed_and_refused_topics(node: Node, start: Start) -> None:
    writer = start("confluent-kafka", "writer")
    assert writer.produce("orders") == 0
    assert writer.produce("secret") == TOPIC_REFUSED

    def seen() -> dict[tuple[str, str, str], dict[str, Any]]:
        filters = ("--protocol", "kafka", "--from-pod", "shop/writer", "--all", "-o", "json")
        command = [sys.executable, "-m", "proxy", "observe", "--socket", str(node.lab.agent.socket), *filters]
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        flows = [json.loads(line)["flow"] for line in lines]
        told = {(flow["verdict"], _kafka(flow)["api_key"], _kafka(flow).get("topic", "")): flow for flow in flows}
        return told if {key[0] for key in told} >= {"FORWARDED", "DROPPED"} else {}

    flows = eventually(seen)
    assert ("FORWARDED", "produce", "orders") in flows
    refused = flows["DROPPED", "metadata", "secret"]
    assert refused["drop_reason_desc"] == "POLICY_DENIED"
    assert refused["Summary"].startswith("Kafka request metadata")
    assert refused["ingress_denied_by"][0]["name"] == "server"


def _kafka(flow: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = flow["l7"]["kafka"]
    return found


# -- what is no Kafka ------------------------------------------------------------------------------------------------


def ended(connection: socket.socket) -> bool:
    """The other end wants no more of it."""
    try:
        return connection.recv(64) == b""
    except ConnectionError:
        return True


def test_tls_is_reset_and_the_record_says_why(node: Node) -> None:
    context = ssl.create_default_context()
    with node.connection(PORT) as plain:
        local = int(plain.getsockname()[1])
        with pytest.raises((ConnectionError, ssl.SSLError)):
            context.wrap_socket(plain, server_hostname="broker.example.com")
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.ERROR)
    assert "the client speaks TLS, and Kafka rules can not see into it" in flow.summary


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        struct.pack(">i", -1) + bytes(64),
        struct.pack(">ihhih", 24, 18, 4, 1, 30000) + bytes(14),
        struct.pack(">ihhih", 10, 20000, 0, 1, -1),
    ],
    ids=["HTTP", "negative length", "client id longer than its frame", "unknown request"],
)
def test_what_is_no_kafka_ends_and_is_on_record(node: Node, admin: Driver, data: bytes) -> None:
    with node.connection(PORT) as connection:
        local = int(connection.getsockname()[1])
        connection.sendall(data)
        assert ended(connection)
    assert node.flow(local, lambda flow: flow.verdict in (Verdict.ERROR, Verdict.DROPPED))
    assert admin.produce("orders") == 0


# -- what ends -------------------------------------------------------------------------------------------------------


class OwnBroker:
    """A second broker in the server's pod, in the test's hands."""

    def __init__(self, node: Node) -> None:
        command = [*BROKER.split(), "--port", str(OTHER)]
        self.process = node.lab.popen(
            SERVER, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE.parents[1]
        )
        eventually(lambda: OTHER in open_ports(self.process.pid))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_broker_that_is_killed_and_comes_back(node: Node, start: Start, library: str) -> None:
    broker = OwnBroker(node)
    try:
        client = start(library, "client", OTHER)
        assert client.produce("orders") == 0
        broker.kill()
        assert client.produce("orders") not in (0, TOPIC_REFUSED)
        broker = OwnBroker(node)
        eventually(lambda: client.produce("orders") == 0, 3 * PATIENCE_S)
        assert client.produce("secret") == TOPIC_REFUSED
    finally:
        broker.kill()


@pytest.mark.parametrize("library", LIBRARIES)
def test_clients_go_on_when_the_agent_has_been_started_again(
    node: Node, start: Start, admin: Driver, library: str
) -> None:
    """Connections that say nothing end at once when the agent drains; every record that was confirmed is there."""
    writer = start(library, "writer")
    before = admin.count("restart")
    assert writer.produce("restart") == 0
    pid = node.lab.agent_pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: node.lab.agent_pid is None)
    assert eventually(lambda: not writer.connections)
    node.lab.start_agent({"hubble_event_buffer_capacity": 16383, "drain_timeout_s": 5})
    eventually(lambda: writer.produce("restart") == 0, 3 * PATIENCE_S)
    assert writer.produce("secret") == TOPIC_REFUSED
    assert admin.count("restart") >= before + 2
