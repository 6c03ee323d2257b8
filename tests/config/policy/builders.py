"""Small worlds for policy tests: a few pods, some policies, and questions about what may pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from textwrap import indent

import yaml

from config.endpoints import EndpointsFile, parse_endpoints
from config.findings import Finding
from config.identity import Reserved
from config.policy.decide import Decision, Denied, Inspect, decide
from config.policy.explain import groups_of
from config.policy.load import LoadedFile, parse_file
from config.policy.requests import http_matcher
from config.policy.resolve import resolve
from config.policy.resolved import Address, Direction, Endpoint, EndpointPolicy, Protocol, Snapshot
from config.settings import Settings
from parsers.facts import HttpRequest

PODS = """
namespaces:
- {name: default, labels: {team: base}}
- {name: other, labels: {team: far}}
endpoints:
- {name: a, labels: {id: a, role: server}, addresses: [10.9.0.1, "fd09::1"], interface: a0,
   ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}
- {name: foo, labels: {id: foo}, addresses: [10.9.0.2], interface: foo0, ports: [{name: http, containerPort: 8080}]}
- {name: bar, labels: {id: bar, tier: front}, addresses: [10.9.0.3], interface: bar0, serviceAccount: runner}
- {name: foo, namespace: other, labels: {id: foo}, addresses: [10.9.0.4], interface: ofoo0}
- {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}, addresses: [10.9.0.53], interface: dns0}
- {name: far, labels: {id: far}, addresses: [10.9.0.9]}
nodes: [{name: n2, addresses: [192.168.9.2]}]
kubeApiServer: [192.168.9.3]
"""

LINK = {
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
    "sctp": Protocol.SCTP,
    "icmp": Protocol.ICMP,
    "icmpv6": Protocol.ICMPV6,
}


def policy(spec: str, *, name: str = "p", namespace: str | None = "default", kind: str = "CiliumNetworkPolicy") -> str:
    """YAML of one policy; `spec` is the YAML of its rule."""
    where = f", namespace: {namespace}" if namespace is not None else ""
    head = f"apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: {name}{where}}}\nspec:\n"
    return head + indent(spec.strip("\n"), "  ") + "\n"


def clusterwide(spec: str, *, name: str = "c") -> str:
    return policy(spec, name=name, namespace=None, kind="CiliumClusterwideNetworkPolicy")


def load(*documents: str) -> LoadedFile:
    return parse_file("\n---\n".join(documents).encode(), "policies.yaml")


def codes_of(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def endpoints(text: str = PODS) -> EndpointsFile:
    file = parse_endpoints(text.encode(), "endpoints.yaml")
    assert file.ok, file.findings
    return file


def snapshot_of(*documents: str, pods: str = PODS, settings: Settings | None = None) -> Snapshot:
    file = load(*documents)
    assert file.ok, file.findings
    return resolve(file.documents, endpoints(pods), settings or Settings(), 1)


@dataclass(frozen=True)
class World:
    """Questions to a snapshot. Peers are pods (`foo`, `other/foo`), addresses, or reserved identities (`host`).

    `names`: what every pod has looked up, address → names.
    """

    snapshot: Snapshot
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def endpoint(self, name: str) -> Endpoint:
        namespace, _, bare = name.rpartition("/")
        for known in self.snapshot.endpoints.values():
            if (known.namespace, known.name) == (namespace or "default", bare):
                return known
        raise LookupError(name)

    def policy(self, name: str) -> EndpointPolicy:
        return self.snapshot.policies[self.endpoint(name).id]

    def identity(self, peer: str) -> int:
        """As the datapath finds it: longest prefix of the ipcache, else the world of that family."""
        try:
            address: Address = ip_address(peer)
        except ValueError:
            name = peer.upper().replace("-", "_")
            return int(Reserved[name]) if name in Reserved.__members__ else self.endpoint(peer).identity
        covering = [item for item in self.snapshot.ipcache.items() if address in item[0]]
        if covering:
            return max(covering, key=lambda item: item[0].prefixlen)[1]
        return int(Reserved.WORLD_IPV4 if address.version == 4 else Reserved.WORLD_IPV6)

    def ask(self, subject: str, peer: str, port: str, direction: Direction = Direction.INGRESS) -> Decision:
        number, _, protocol = port.partition("/")
        link = LINK[protocol or "tcp"]
        section = self.policy(subject).direction(direction)
        named = groups_of(section, self.names.get(peer, ()) if direction is Direction.EGRESS else ())
        return decide(section, self.identity(peer), link, int(number), named)

    def into(self, subject: str, peer: str, port: str) -> str:
        """`allow`, `deny` or the kind of L7 rules (`http`) for traffic from `peer` to `subject`."""
        return word(self.ask(subject, peer, port))

    def out(self, subject: str, peer: str, port: str) -> str:
        return word(self.ask(subject, peer, port, Direction.EGRESS))

    def http(self, subject: str, peer: str, port: str, request: str) -> bool:
        """Is `METHOD PATH` from `peer` permitted?"""
        decision = self.ask(subject, peer, port)
        if isinstance(decision, Inspect):
            return http_matcher(decision.rules).judge(http_request(request)) is not None
        return not isinstance(decision, Denied)

    def enforced(self, subject: str) -> tuple[bool, bool]:
        known = self.policy(subject)
        return known.ingress.enforced, known.egress.enforced


def world(*documents: str, pods: str = PODS, settings: Settings | None = None) -> World:
    return World(snapshot_of(*documents, pods=pods, settings=settings))


def word(decision: Decision) -> str:
    if isinstance(decision, Inspect):
        return decision.kind.value
    return "deny" if isinstance(decision, Denied) else "allow"


def http_request(text: str, host: str = "a.example", headers: tuple[tuple[str, str], ...] = ()) -> HttpRequest:
    method, _, path = text.partition(" ")
    sent = tuple((name.encode(), value.encode()) for name, value in headers)
    return HttpRequest(method.encode(), path.encode(), host.encode(), sent)


def dump(value: object) -> str:
    """Plain values as YAML."""
    return yaml.safe_dump(value)
