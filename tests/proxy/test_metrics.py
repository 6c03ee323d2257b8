"""The numbers for Prometheus, as it reads them: through the socket, with its own parser."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from proxy.api.listen import ListenError
from proxy.flows.wire import KAFKA_BUCKETS_MS, Batch, KafkaCount
from proxy.metrics import MAX_CONNECTIONS, MetricsServer
from tests.proxy.flows.samples import Node

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def served(node: Node, ask: Callable[[str], Awaitable[T]], host: str = "127.0.0.1") -> T:
    """What `ask` finds at the address of a server of the node's numbers."""

    async def run() -> T:
        address = f"{host}:{free_port()}"
        server = MetricsServer(address, node.workers, node.ring)
        await server.start()
        try:
            return await ask(address if host else f"127.0.0.1{address}")
        finally:
            await server.stop()

    return asyncio.run(run())


async def get(address: str, path: str = "/metrics", accept: str = "text/plain") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession(headers={"Accept": accept}) as session,
        session.get(f"http://{address}{path}") as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.text()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def key(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def node_with_kafka(topic: str = "orders") -> Node:
    node = Node()
    buckets = [0] * (len(KAFKA_BUCKETS_MS) + 1)
    quick, slow = [3, 1, *buckets[2:]], [*buckets[1:], 1]
    counts = [
        KafkaCount(topic, 0, 0, 0, 5, 21_000_000, quick),
        KafkaCount(topic, 0, 29, 0, 1, 60_000_000_000, slow),
        KafkaCount(topic, 1, 0, 1, 2, 0, buckets),
    ]
    node.workers.add(Batch(0, [], [], [], [], 0, {}, kafka_counts=counts))
    return node


def test_kafka() -> None:
    status, _, text = served(node_with_kafka(), get)
    assert status == 200
    found = samples(text)
    requests = "hubble_kafka_requests_total"
    server = {"topic": "orders", "api_key": "produce", "reporter": "server"}
    assert found[key(requests, error_code="0", **server)] == 5
    assert found[key(requests, error_code="29", **server)] == 1
    client = {"topic": "orders", "api_key": "fetch", "reporter": "client"}
    assert found[key(requests, error_code="0", **client)] == 2
    took = "hubble_kafka_request_duration_seconds"
    assert [found[key(f"{took}_bucket", le=bound, **server)] for bound in ("0.005", "0.01", "10.0", "+Inf")] == [
        3,
        4,
        4,
        5,
    ]
    assert found[key(f"{took}_sum", **server)] == pytest.approx(60.021)
    assert found[key(f"{took}_count", **server)] == 5
    assert key(f"{took}_count", **client) not in found


def test_counters() -> None:
    node = Node()
    counters = {
        "connections": 4,
        "requests.allowed": 3,
        "requests.refused": 1,
        "kafka.refused": 2,
        "limits.max_connections": 7,
        "failures.error": 5,
        "refused.direct": 6,
        "names.dropped": 8,
        "something": 9,
    }
    node.workers.add(Batch(0, [], [], [], [], 3, counters))
    found = samples(served(node, get)[2])
    assert found[key("penstock_connections_total")] == 4
    assert found[key("penstock_requests_total", protocol="http", outcome="allowed")] == 3
    assert found[key("penstock_requests_total", protocol="http", outcome="refused")] == 1
    assert found[key("penstock_requests_total", protocol="kafka", outcome="refused")] == 2
    assert found[key("penstock_limits_reached_total", limit="max_connections")] == 7
    assert found[key("penstock_failures_total", verdict="error")] == 5
    assert found[key("penstock_connections_refused_total", reason="direct")] == 6
    assert found[key("penstock_server_names_total", verdict="dropped")] == 8
    assert found[key("penstock_counter_total", name="something")] == 9
    assert found[key("penstock_flows_lost_total")] == 3


def test_the_newer_format() -> None:
    _, kind, text = served(node_with_kafka(), lambda address: get(address, accept="application/openmetrics-text"))
    assert kind.startswith("application/openmetrics-text")
    names = {family.name for family in open_metrics(text)}  # type: ignore[no-untyped-call]
    assert {"hubble_kafka_requests", "hubble_kafka_request_duration_seconds"} <= names


def test_a_topic_cannot_forge_numbers() -> None:
    topic = 'x",reporter="me"} 5\nforged 1\n\\'
    text = served(node_with_kafka(topic), get)[2]
    assert not any(line.startswith("forged") for line in text.splitlines())
    assert {dict(labels).get("topic", topic) for _, labels in samples(text)} == {topic}


def test_nothing_else_is_served() -> None:
    assert served(Node(), lambda address: get(address, "/v1/policy"))[0] == 404


def test_all_addresses() -> None:
    assert served(Node(), get, host="")[0] == 200


def test_no_address_no_server() -> None:
    async def run() -> None:
        node = Node()
        server = MetricsServer("", node.workers, node.ring)
        await server.start()
        await server.stop()

    asyncio.run(run())


def test_an_address_in_use_is_told() -> None:
    async def again(address: str) -> None:
        node = Node()
        with pytest.raises(ListenError, match=f"no metrics at hubble-metrics-server {address}: .*in use"):
            await MetricsServer(address, node.workers, node.ring).start()

    served(Node(), again)


def test_connections_are_bounded() -> None:
    async def crowd(address: str) -> tuple[bytes, int]:
        host, _, port = address.partition(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CONNECTIONS)]
        reader, writer = await asyncio.open_connection(host, int(port))
        turned = await reader.read()
        writer.close()
        held.pop()[1].close()
        for _ in range(100):
            await asyncio.sleep(0.01)
            try:
                status = (await get(address))[0]
            except aiohttp.ClientError:
                continue
            break
        for _, other in held:
            other.close()
            await other.wait_closed()
        return turned, status

    assert served(Node(), crowd) == (b"", 200)
