"""Policy after every selector is resolved: what the datapath and the proxy enforce.

Immutable and complete: a `Snapshot` answers every question about its revision, and is replaced as a whole.
Nothing in here knows YAML, maps or sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
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


class L7Kind(StrEnum):
    """What a list of L7 rules is about."""

    HTTP = "http"
    TLS = "tls"
    DNS = "dns"
    KAFKA = "kafka"


class HeaderAction(StrEnum):
    """What to do with a request whose header is not as it should be. FAIL: the rule does not permit it."""

    FAIL = "FAIL"
    LOG = "LOG"
    ADD = "ADD"
    DELETE = "DELETE"
    REPLACE = "REPLACE"


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """One item of `headerMatches` that does more than compare with a value in the file.

    `name` is lower case. `secret` (`namespace/name`) is where `value` comes from, which nobody may see; `is_known`
    says whether there is a value at all.
    """

    name: str
    action: HeaderAction
    value: str = field(default="", repr=False)
    secret: str = ""
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One item of `rules.http`. Empty string = not restricted. Regular expressions are RE2, full match.

    `headers` are (lower-case name, required value or None for mere presence).
    """

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[tuple[str, str | None], ...] = ()
    header_matches: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsRule:
    """One item of `rules.dns`: a name (lower case, no final dot), a glob, or either. No types: any type of query."""

    name: str = ""
    pattern: str = ""
    query_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KafkaRule:
    """One item of `rules.kafka`, roles expanded. None and the empty string: not restricted."""

    api_keys: frozenset[int] | None = None
    api_version: int | None = None
    client_id: str = ""
    topic: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class ServerName:
    """One item of `serverNames`: a name or a glob, lower case."""

    pattern: str


L7Rule = HttpRule | DnsRule | KafkaRule | ServerName

_KINDS: dict[type[L7Rule], L7Kind] = {
    HttpRule: L7Kind.HTTP,
    DnsRule: L7Kind.DNS,
    KafkaRule: L7Kind.KAFKA,
    ServerName: L7Kind.TLS,
}


def kind_of(rule: L7Rule) -> L7Kind:
    return _KINDS[type(rule)]


@dataclass(frozen=True, slots=True)
class FqdnPeer:
    """Addresses that a DNS name was seen to have: a name (lower case, no final dot) or a glob."""

    name: str = ""
    pattern: str = ""

    def __str__(self) -> str:
        return self.name or self.pattern or "."


@dataclass(frozen=True, slots=True)
class NameGroup:
    """All that one entry's `toFQDNs` select, under one identity.

    An endpoint's DNS answers give it addresses of that identity, beside the one that they have for everybody.
    """

    identity: int
    selectors: frozenset[FqdnPeer]


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy entry × one port rule, its peers resolved to identities.

    `identities` None means any peer; an empty set means no peer at all. `ports` None means any port and
    protocol. `l7` None means no L7 rules; otherwise its items, all of one kind, are alternatives. `audit`: the policy
    is only tried out, what it denies passes and is reported. `names`: DNS names whose addresses are peers, too; their
    identity is among `identities`.
    """

    origin: Origin
    identities: frozenset[int] | None
    ports: tuple[PortRange, ...] | None
    deny: bool = False
    l7: tuple[L7Rule, ...] | None = None
    audit: bool = False
    names: NameGroup | None = None


class PolicyName(NamedTuple):
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class DirectionPolicy:
    """One direction of one subject. Not enforced: everything is allowed and `rules` do not matter.

    `enforced_by` names the policies that govern the subject in this direction, also those without any rule. `audit`:
    only policies that are tried out make it default deny, so what no rule allows passes and is reported.
    """

    enforced: bool
    rules: tuple[Rule, ...] = ()
    enforced_by: tuple[PolicyName, ...] = ()
    audit: bool = False


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
    `origins`: rule id → where it stands. `services`: addresses that this node translates before anything is judged.
    """

    revision: int
    endpoints: Mapping[int, Endpoint] = field(default_factory=dict)
    policies: Mapping[int, EndpointPolicy] = field(default_factory=dict)
    ipcache: Mapping[Network, int] = field(default_factory=dict)
    identities: Mapping[int, frozenset[str]] = field(default_factory=dict)
    origins: Mapping[int, Origin] = field(default_factory=dict)
    services: tuple[Network, ...] = ()
