"""Two pods with policies, as a snapshot: a may reach what it likes, inspected on one port; b is default-deny."""

from __future__ import annotations

import errno
from ipaddress import ip_address, ip_network

from config.policy.resolved import (
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    HttpRule,
    Origin,
    PortRange,
    Protocol,
    Rule,
    Snapshot,
)
from proxy.datapath import Datapath, EventType, PacketEvent
from tests.bpf.servers import REFUSAL, dial
from tests.bpf.topology import NET, Namespace, Topology

ID_A, ID_B, HOST = 1001, 1002, 1
WORLD = {4: 9, 6: 10}
PLAIN, INSPECTED, REFUSED, OUTSIDE_INSPECTED = 81, 80, 82, 8080
OPEN = DirectionPolicy(enforced=False)


def rule(number: int, *ports: int, http: bool = False, identities: frozenset[int] | None = None) -> Rule:
    origin = Origin(number, "CiliumNetworkPolicy", "test", "policy", "ingress[0]")
    ranges = tuple(PortRange(Protocol.TCP, port, port) for port in ports) or None
    return Rule(origin, identities, ranges, l7=(HttpRule(method="GET"),) if http else None)


INGRESS_OF_B = DirectionPolicy(True, (rule(1, INSPECTED, http=True), rule(2, PLAIN)))
EGRESS_OF_A = DirectionPolicy(True, (rule(3, OUTSIDE_INSPECTED, http=True), rule(4)))


def endpoint(number: int, pod: str, identity: int) -> Endpoint:
    addresses = (ip_address(f"10.77.{NET[pod]}.2"), ip_address(f"fd77:{NET[pod]}::2"))
    return Endpoint(number, "test", pod, frozenset(), identity, addresses, interface=f"v{pod}")


def snapshot(
    ingress_of_b: DirectionPolicy = INGRESS_OF_B, egress_of_a: DirectionPolicy = EGRESS_OF_A, revision: int = 1
) -> Snapshot:
    endpoints = {1: endpoint(1, "a", ID_A), 2: endpoint(2, "b", ID_B)}
    return Snapshot(
        revision,
        endpoints,
        {1: EndpointPolicy(OPEN, egress_of_a), 2: EndpointPolicy(ingress_of_b, OPEN)},
        {ip_network(address): one.identity for one in endpoints.values() for address in one.addresses},
    )


def refused(where: Namespace, address: str, port: int, source: str = "") -> bool:
    """True if nobody answers, not even to ARP."""
    try:
        dial(where, address, port, REFUSAL, source).close()
    except OSError as error:
        if isinstance(error, TimeoutError) or error.errno == errno.EHOSTUNREACH:
            return True
        raise
    return False


def drops(datapath: Datapath) -> list[PacketEvent]:
    return [event for event in datapath.events.read() if event.type is EventType.DROP]


def client_facts(net: Topology, client: str, version: int) -> tuple[Namespace, str, int, int]:
    """Namespace, address, endpoint id and identity of a client."""
    match client:
        case "a":
            return net.a, net.address("a", version), 1, ID_A
        case "outside":
            return net.outside, net.outside_address(version), 0, WORLD[version]
        case _:
            # The node picks its address on b's link.
            return net.node, f"10.77.{NET['b']}.1" if version == 4 else f"fd77:{NET['b']}::1", 0, HOST
