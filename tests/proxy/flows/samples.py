"""A small node: two pods, their policies, and what workers and kernel report about them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from config.policy.resolved import (
    ContainerPort,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    HttpRule,
    Origin,
    PolicyName,
    PortRange,
    Protocol,
    Rule,
    Snapshot,
)
from proxy.flows.enrich import Enricher, NamesOf
from proxy.flows.from_events import EventFlows
from proxy.flows.from_workers import OnLearnt, WorkerFlows
from proxy.flows.model import Flow, Observation, Verdict
from proxy.flows.ring import FlowRing
from proxy.flows.wire import (
    Batch,
    Connection,
    DnsCount,
    DnsExchange,
    Exchange,
    Failure,
    KafkaCount,
    KafkaExchange,
    Learnt,
)

# 2026-01-02T03:04:05.678Z
NOON = 1_767_323_045_678_000_000
WEB, API, WORLD = 3001, 3002, 2
MS = 1_000_000

ALLOW = Origin(7, "CiliumNetworkPolicy", "default", "api", "ingress[0]", "policies/api.yaml", 12)
DENY = Origin(8, "CiliumClusterwideNetworkPolicy", "", "no-world", "egressDeny[0]", "policies/deny.yaml", 4)
OWN = Origin(9, "Penstock", "", "host", "host access")


def endpoint(number: int, name: str, identity: int, *addresses: str, local: bool = True) -> Endpoint:
    return Endpoint(
        number,
        "default",
        name,
        frozenset({f"k8s:app={name}", "k8s:io.kubernetes.pod.namespace=default"}),
        identity,
        tuple(ip_address(address) for address in addresses),
        interface=f"veth{number}" if local else "",
        ports=(ContainerPort("http", 8080),),
    )


def _enforced(*rules: Rule) -> DirectionPolicy:
    names = (PolicyName(rule.origin.kind, rule.origin.namespace, rule.origin.name) for rule in rules)
    return DirectionPolicy(True, rules, tuple(name for name in names if name.kind != "Penstock"))


def snapshot(revision: int = 3) -> Snapshot:
    http = Rule(ALLOW, frozenset({WEB}), (PortRange(Protocol.TCP, 8080, 8080),), l7=(HttpRule("GET", "/v1/.*"),))
    host = Rule(OWN, frozenset({1}), None)
    world = Rule(DENY, frozenset({WORLD}), None, deny=True)
    open_ = DirectionPolicy(enforced=False)
    endpoints = [
        endpoint(11, "web", WEB, "10.0.0.1", "fd00::1"),
        endpoint(12, "api", API, "10.0.0.2", "fd00::2"),
        endpoint(13, "far", 3003, "10.0.9.9", local=False),
    ]
    return Snapshot(
        revision,
        {item.id: item for item in endpoints},
        {
            11: EndpointPolicy(open_, _enforced(world)),
            12: EndpointPolicy(_enforced(host, http), open_),
        },
        {ip_network("10.0.0.1/32"): WEB},
        {item.identity: item.labels for item in endpoints} | {WORLD: frozenset({"reserved:world"})},
        {origin.id: origin for origin in (ALLOW, DENY, OWN)},
    )


def connection(number: int = 1, port: int = 41000, v6: bool = False) -> Connection:
    client, server = ("fd00::1", "fd00::2") if v6 else ("10.0.0.1", "10.0.0.2")
    return Connection(number, client, port, server, 8080, 11, 12, WEB, API)


def exchange(
    method: bytes = b"GET",
    target: bytes = b"/v1/items",
    verdict: Verdict = Verdict.FORWARDED,
    status: int = 200,
    *,
    number: int = 1,
    time_ns: int = NOON,
    latency_ns: int = MS,
    rule: int = 7,
    revision: int = 3,
    reason: str = "",
    host: bytes = b"api:8080",
    direction: int = 0,
) -> Exchange:
    return Exchange(
        number,
        time_ns,
        int(verdict),
        direction,
        method,
        target,
        host,
        "HTTP/1.1",
        status,
        latency_ns,
        rule,
        revision,
        reason,
    )


def refused(**more: object) -> Exchange:
    reason = 'method "DELETE" is not "GET"'
    return exchange(b"DELETE", verdict=Verdict.DROPPED, status=403, latency_ns=MS // 2, rule=0, reason=reason, **more)  # type: ignore[arg-type]


def kafka(
    topics: tuple[str, ...] = ("orders",),
    verdict: Verdict = Verdict.FORWARDED,
    *,
    api_key: int = 0,
    error_code: int = 0,
    answered: bool = True,
    client_id: str = "",
    more: int = 0,
    direction: int = 0,
    rule: int = 7,
    reason: str = "",
) -> KafkaExchange:
    return KafkaExchange(
        1,
        NOON,
        int(verdict),
        direction,
        api_key,
        9,
        5,
        client_id,
        list(topics),
        more,
        error_code,
        answered,
        MS if answered else 0,
        rule,
        3,
        reason,
    )


def refused_kafka() -> KafkaExchange:
    return kafka(("secret",), Verdict.DROPPED, error_code=29, rule=0, reason='topic "secret" is not "orders"')


DNS_SERVER = "10.0.0.2"
"""The api pod is the DNS server, too."""


def datagrams(number: int = 1, port: int = 5353) -> Connection:
    """A query and its answer over UDP, as workers tell them."""
    return Connection(number, "10.0.0.1", port, DNS_SERVER, 53, 11, 12, WEB, API, Protocol.UDP)


def dns(
    name: str = "api.stripe.com",
    verdict: Verdict = Verdict.FORWARDED,
    *,
    number: int = 1,
    query_type: str = "A",
    rcode: int = 0,
    addresses: tuple[bytes, ...] = (b"\xc0\x00\x02\x07", b"\xc0\x00\x02\x08"),
    ttl: int = 30,
    cnames: tuple[str, ...] = (),
    types: tuple[str, ...] = ("A", "A"),
    answered: bool = True,
    direction: int = 0,
    rule: int = 7,
    reason: str = "",
) -> DnsExchange:
    return DnsExchange(
        number,
        NOON,
        int(verdict),
        direction,
        name,
        query_type,
        rcode,
        list(addresses),
        ttl,
        list(cnames),
        list(types),
        answered,
        MS if answered else 0,
        rule,
        3,
        reason,
    )


def refused_dns(rcode: int = 5) -> DnsExchange:
    reason = 'name "evil.test" is not "*.stripe.com"'
    return dns("evil.test", Verdict.DROPPED, rcode=rcode, addresses=(), ttl=0, types=(), rule=0, reason=reason)


def batch(
    *exchanges: Exchange,
    connections: list[Connection] | None = None,
    closed: list[int] | None = None,
    failures: list[Failure] | None = None,
    lost: int = 0,
    worker: int = 0,
    kafka: list[KafkaExchange] | None = None,
    kafka_counts: list[KafkaCount] | None = None,
    dns: list[DnsExchange] | None = None,
    dns_counts: list[DnsCount] | None = None,
    learnt: list[Learnt] | None = None,
) -> Batch:
    told = [connection()] if connections is None else connections
    counters = {"requests": len(exchanges)}
    told_first = (worker, told, closed or [], list(exchanges), failures or [], lost, counters)
    return Batch(*told_first, kafka or [], kafka_counts or [], dns or [], dns_counts or [], learnt or [])


class Node:
    """Ring and producers of one agent."""

    def __init__(
        self, capacity: int = 4095, names_of: NamesOf | None = None, on_learnt: OnLearnt | None = None
    ) -> None:
        self.ring = FlowRing(capacity, "node-1")
        self.enricher = Enricher("node-1", names_of)
        self.enricher.publish(snapshot())
        self.workers = WorkerFlows(self.ring, self.enricher, on_learnt)
        self.events = EventFlows(self.ring, self.enricher)

    def observations(self) -> list[Observation]:
        return [self.ring.build(item) for item in self.ring.records()]

    def flows(self) -> list[Flow]:
        return [item for item in self.observations() if isinstance(item, Flow)]


def golden_node() -> Node:
    """The node that saw what the golden lines say."""
    from config.policy.resolved import Direction
    from proxy.flows.from_events import EventKind, PacketEvent

    node = Node()
    node.workers.add(batch(exchange()))
    second = [connection(2, 41002)]
    node.workers.add(batch(refused(number=2, time_ns=NOON + 323 * MS), connections=second))
    node.events.add(
        [
            PacketEvent(
                EventKind.VERDICT,
                NOON + 1322 * MS,
                "10.0.0.1",
                "192.0.2.7",
                Protocol.TCP,
                41003,
                443,
                0x02,
                verdict=Verdict.DROPPED,
                reason=181,
                direction=Direction.EGRESS,
                source_endpoint=11,
                source_identity=WEB,
                destination_identity=WORLD,
            )
        ]
    )
    return node
