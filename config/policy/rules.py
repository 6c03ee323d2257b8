"""The policy language after reading: what rules mean, before anybody knows which pods there are.

Every kind of policy file becomes this; `resolve.py` turns it into identities. Peers are OR-ed. None and an empty
tuple differ: None is "not restricted", empty is "none at all".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from config.policy.resolved import Direction, FqdnPeer, L7Rule, Network
from config.policy.selectors import Selector


class Entity(StrEnum):
    """Names that stand for groups of peers."""

    ALL = "all"
    WORLD = "world"
    WORLD_IPV4 = "world-ipv4"
    WORLD_IPV6 = "world-ipv6"
    CLUSTER = "cluster"
    HOST = "host"
    REMOTE_NODE = "remote-node"
    KUBE_APISERVER = "kube-apiserver"
    INIT = "init"
    INGRESS = "ingress"
    HEALTH = "health"
    UNMANAGED = "unmanaged"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CidrBlock:
    """Addresses outside the cluster: a prefix without the exceptions in it."""

    network: Network
    excepts: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupPeer:
    """The prefixes of CIDR groups: the group of that name, or all groups whose labels match."""

    name: str = ""
    selector: Selector | None = None
    excepts: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class ServicePeer:
    """What stands behind services: the service of that name, or all of the namespace (empty: any) that match."""

    namespace: str
    name: str = ""
    selector: Selector | None = None


Peer = Selector | CidrBlock | Entity | GroupPeer | ServicePeer | FqdnPeer


@dataclass(frozen=True, slots=True)
class PortSpec:
    """Ports first..last of some protocols, or a named port whose number depends on the pod. Any port: 0..65535."""

    protocols: tuple[int, ...]
    first: int = 0
    last: int = 65535
    name: str = ""


@dataclass(frozen=True, slots=True)
class PortRule:
    """Ports that belong together, with the L7 rules for them; `l7` None means no L7 rules."""

    ports: tuple[PortSpec, ...]
    l7: tuple[L7Rule, ...] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of `ingress`, `ingressDeny`, `egress` or `egressDeny`. `name` reads `ingress[0]`.

    `peers` None: any peer. `port_rules` None: any port and protocol.
    """

    direction: Direction
    deny: bool
    name: str
    line: int
    peers: tuple[Peer, ...] | None
    port_rules: tuple[PortRule, ...] | None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One `spec`: whom it is about and what it permits.

    `governs` and `default_deny` are by direction: does the rule say anything there, and does it, by being there, make
    everything else refused? `audit`: what the rule refuses passes and is reported.
    """

    subject: Selector
    entries: tuple[Entry, ...]
    governs: tuple[bool, bool]
    default_deny: tuple[bool, bool]
    log: str = ""
    audit: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """One policy object that can be enforced as it stands."""

    kind: str
    namespace: str
    name: str
    file: str
    line: int
    rules: tuple[PolicyRule, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """A CiliumCIDRGroup: prefixes with a name. `labels` are `cidrgroup:key=value`.

    `is_broken`: what is in it cannot be read, so that nobody knows whom a deny rule means by it.
    """

    name: str
    labels: frozenset[str]
    networks: tuple[Network, ...]
    file: str
    line: int
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service. Without a `selector` its backends are listed by `ServiceBackends`."""

    namespace: str
    name: str
    labels: frozenset[str]
    selector: Selector | None
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class ServiceBackends:
    """Addresses behind a service, from an Endpoints or EndpointSlice object."""

    namespace: str
    service: str
    networks: tuple[Network, ...]
    file: str
    line: int


Referenced = CidrGroup | Service | ServiceBackends
"""Objects that policies refer to and that are none themselves."""
