"""Policy after every selector is resolved: what the datapath and the proxy enforce.

Immutable and complete: a `Snapshot` answers every question about its revision, and is replaced as a whole.
Nothing in here knows YAML, maps or sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Direction(IntEnum):
    """The subject's point of view: what comes to it, what it sends. Numbers as in the `policy` map."""

    INGRESS = 0
    EGRESS = 1


class Protocol(IntEnum):
    """IP protocol numbers that rules can name; ANY is the wildcard of the `policy` map."""

    ANY = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule stands. `rule` reads like `ingress[0]`; `line` is 1-based, in `file`.

    Rules that Penstock adds by itself (host access, default allow) have `kind` "Penstock" and no file. `log` is the
    text that the policy wants in flow records (`log.value`).
    """

    id: int
    kind: str
    namespace: str
    name: str
    rule: str
    file: str = ""
    line: int = 0
    log: str = ""


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports first..last of one protocol, both inclusive. Any port: 0..65535. ICMP types take the port's place."""

    protocol: int
    first: int = 0
    last: int = 65535


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One item of `rules.http`. Empty string = not restricted. Regular expressions are RE2, full match.

    `headers` are (lower-case name, required value or None for mere presence).
    """

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy entry × one port rule, its peers resolved to identities.

    `identities` None means any peer; an empty set means no peer at all. `ports` None means any port and
    protocol. `http` None means no L7 rules; otherwise any of its items permits a request.
    """

    origin: Origin
    identities: frozenset[int] | None
    ports: tuple[PortRange, ...] | None
    deny: bool = False
    http: tuple[HttpRule, ...] | None = None


class PolicyName(NamedTuple):
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class DirectionPolicy:
    """One direction of one subject. Not enforced: everything is allowed and `rules` do not matter.

    `enforced_by` names the policies that govern the subject in this direction, also those without any rule.
    """

    enforced: bool
    rules: tuple[Rule, ...] = ()
    enforced_by: tuple[PolicyName, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """What is enforced for one endpoint. Endpoints with equal policies share one object."""

    ingress: DirectionPolicy
    egress: DirectionPolicy

    def direction(self, direction: Direction) -> DirectionPolicy:
        return self.egress if direction is Direction.EGRESS else self.ingress


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str
    port: int
    protocol: int = Protocol.TCP


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One workload that policies select: a pod, a container, a network namespace.

    `id` 1..65535 is stable for a namespace/name; `interface` is the node's end of its veth, or `netns` a path
    (or pid) of its network namespace from which that end is found; with neither the endpoint lives on another
    node and is known by address only.
    """

    id: int
    namespace: str
    name: str
    labels: frozenset[str]
    identity: int
    addresses: tuple[Address, ...]
    interface: str = ""
    netns: str = ""
    ports: tuple[ContainerPort, ...] = ()
    audit: bool = False

    @property
    def is_local(self) -> bool:
        return bool(self.interface or self.netns)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of everything that is enforced.

    `policies`: endpoint id → policy, for every local endpoint. `ipcache`: prefix → identity, for endpoints, CIDR
    rules and reserved networks (addresses not covered are world). `identities`: number → its labels.
    `origins`: rule id → where it stands.
    """

    revision: int
    endpoints: Mapping[int, Endpoint] = field(default_factory=dict)
    policies: Mapping[int, EndpointPolicy] = field(default_factory=dict)
    ipcache: Mapping[Network, int] = field(default_factory=dict)
    identities: Mapping[int, frozenset[str]] = field(default_factory=dict)
    origins: Mapping[int, Origin] = field(default_factory=dict)
