"""The numbers for Prometheus, as it reads them: through the socket, with its own parser."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from proxy.api.listen import ListenError
from proxy.flows.wire import BUCKETS_MS, MAX_COUNTED_ADDRESSES, Batch, DnsCount, DnsOutcome, KafkaCount
from proxy.metrics import MAX_CONNECTIONS, MetricsServer, NameStatus
from tests.proxy.flows.samples import Node, batch

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def served(
    node: Node,
    ask: Callable[[str], Awaitable[T]],
    host: str = "127.0.0.1",
    names: Callable[[], NameStatus] | None = None,
    name_selectors: Callable[[], int] | None = None,
) -> T:
    """What `ask` finds at the address of a server of the node's numbers."""

    async def run() -> T:
        address = f"{host}:{free_port()}"
        server = MetricsServer(address, node.workers, node.ring, names, name_selectors)
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
    buckets = [0] * (len(BUCKETS_MS) + 1)
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


def node_with_dns() -> Node:
    node = Node()
    none = [0] * (len(BUCKETS_MS) + 1)
    quick, slow = [4, *none[1:]], [*none[:-1], 2]
    node.workers.add(
        batch(
            dns_counts=[
                DnsCount("A", DnsOutcome.SERVED, 0, 2, 4, 8_000_000, quick, {"CNAME": 4, "A": 8}),
                DnsCount("A", DnsOutcome.SERVED, 0, MAX_COUNTED_ADDRESSES, 4, 8_000_000, quick, {"A": 400}),
                DnsCount("AAAA", DnsOutcome.SERVED, 3, 0, 4, 8_000_000, quick, {}),
                DnsCount("A", DnsOutcome.DENIED, 5, 0, 4, 0, quick, {}),
                DnsCount("A", DnsOutcome.TIMEOUT, 2, 0, 2, 30_000_000_000, slow, {}),
                DnsCount("A", DnsOutcome.FAILED, 2, 0, 4, 1_000_000, quick, {}),
                DnsCount("HTTPS", DnsOutcome.ERROR, 1, 0, 2, 0, slow, {}),
                DnsCount("HTTPS", DnsOutcome.TIMEOUT, -1, 0, 1, 0, none, {}),
            ]
        )
    )
    return node


def test_dns() -> None:
    found = samples(served(node_with_dns(), get)[2])
    queries = "hubble_dns_queries_total"
    assert found[key(queries, rcode="", qtypes="A", ips_returned="0")] == 14
    assert found[key(queries, rcode="Policy denied", qtypes="A", ips_returned="0")] == 4
    assert found[key(queries, rcode="", qtypes="HTTPS", ips_returned="0")] == 3
    responses = "hubble_dns_responses_total"
    assert found[key(responses, rcode="No Error", qtypes="A", ips_returned="2")] == 4
    assert found[key(responses, rcode="No Error", qtypes="A", ips_returned="32+")] == 4
    assert found[key(responses, rcode="Non-Existent Domain", qtypes="AAAA", ips_returned="0")] == 4
    assert found[key(responses, rcode="Query Refused", qtypes="A", ips_returned="0")] == 4
    assert found[key(responses, rcode="Server Failure", qtypes="A", ips_returned="0")] == 6
    types = "hubble_dns_response_types_total"
    assert found[key(types, type="CNAME", qtypes="A")] == 4
    assert found[key(types, type="A", qtypes="A")] == 408


def test_no_number_is_told_twice() -> None:
    node = node_with_dns()
    counts = [DnsCount("A", DnsOutcome.SERVED, code, 0, 1, 0, [0] * (len(BUCKETS_MS) + 1), {}) for code in range(16)]
    node.workers.add(batch(dns_counts=counts))
    lines = [line.rpartition(" ")[0] for line in served(node, get)[2].splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert any(
        line.startswith('hubble_dns_responses_total{ips_returned="0",qtypes="A",rcode="Unknown"') for line in lines
    )


def test_what_became_of_dns_queries() -> None:
    found = samples(served(node_with_dns(), get)[2])
    rules = {rule: found[key("cilium_policy_l7_total", proxy_type="fqdn", rule=rule)] for rule in RULES}
    assert rules == {"received": 25, "forwarded": 19, "denied": 4, "parse_errors": 2}
    took = "cilium_proxy_upstream_reply_seconds"
    told = {"protocol_l7": "dns", "scope": "totalTime"}
    errors = ("allow", "denied", "timeout", "proxyErr")
    assert {error: found[key(f"{took}_count", error=error, **told)] for error in errors} == {
        "allow": 12,
        "denied": 4,
        "timeout": 2,
        "proxyErr": 6,
    }
    assert found[key(f"{took}_bucket", error="proxyErr", le="10.0", **told)] == 4
    assert found[key(f"{took}_sum", error="timeout", **told)] == pytest.approx(30)
    assert found[key(f"{took}_sum", error="allow", **told)] == pytest.approx(0.024)


RULES = ("received", "forwarded", "denied", "parse_errors")


class Names:
    """The status of a store of names."""

    active_names: ClassVar = {11: 3, 12: 1}
    active_ips: ClassVar = {11: 5}
    alive_zombie_connections: ClassVar = {11: 2}
    gc_deletions_total = 7


def test_names() -> None:
    found = samples(served(Node(), get, names=Names, name_selectors=lambda: 4)[2])
    assert found[key("cilium_fqdn_active_names", endpoint="11")] == 3
    assert found[key("cilium_fqdn_active_names", endpoint="12")] == 1
    assert found[key("cilium_fqdn_active_ips", endpoint="11")] == 5
    assert found[key("cilium_fqdn_alive_zombie_connections", endpoint="11")] == 2
    assert found[key("cilium_fqdn_gc_deletions_total")] == 7
    assert found[key("cilium_fqdn_selectors")] == 4


def test_without_a_store_of_names() -> None:
    assert not any(name.startswith("cilium_fqdn") for name, _ in samples(served(Node(), get)[2]))


def test_counters() -> None:
    node = Node()
    counters = {
        "connections": 4,
        "requests.allowed": 3,
        "requests.refused": 1,
        "kafka.refused": 2,
        "queries.allowed": 10,
        "dns.mismatched": 11,
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
    assert found[key("penstock_requests_total", protocol="dns", outcome="allowed")] == 10
    assert found[key("penstock_dns_events_total", event="mismatched")] == 11
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
