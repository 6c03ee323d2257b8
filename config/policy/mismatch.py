"""Why an entry is not about a connection, in words: which subject, peer or port it wants, and what there is instead.

Only words are made here. That the entry does not match was decided before, by the rules that were resolved from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from config.labels import CLUSTER, K8S, NAMESPACE_LABELS, POD_NAMESPACE, SERVICE_ACCOUNT, parse_label
from config.policy.named_ports import own_ports
from config.policy.resolved import ContainerPort, FqdnPeer, Protocol
from config.policy.rules import CidrBlock, Entity, Entry, GroupPeer, Peer, PortSpec, ServicePeer
from config.policy.selectors import Selector

MAX_WORDS = 300
"""Characters of one list of peers or ports; a file may hold megabytes of them."""

_GIVEN = (POD_NAMESPACE, CLUSTER, SERVICE_ACCOUNT)
_ICMP = (Protocol.ICMP, Protocol.ICMPV6)
_WITH_PORTS = (int(Protocol.TCP), int(Protocol.UDP), int(Protocol.SCTP))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`matcher` is what said no: `subject`, `peer`, `port`, or a field of an L7 rule such as `http.path`."""

    matcher: str
    reason: str


def subject_mismatch(subject: Selector, name: str, labels: Iterable[str]) -> Mismatch:
    return Mismatch("subject", f"subject: {_clipped(str(subject))} does not select {described(name, labels)}")


def peer_mismatch(entry: Entry, name: str, labels: Iterable[str]) -> Mismatch:
    if not entry.peers:
        return Mismatch("peer", "peer: the entry selects nobody")
    peers = _clipped("; ".join(map(peer_words, entry.peers)))
    verb = "does" if len(entry.peers) == 1 else "do"
    return Mismatch("peer", f"peer: {peers} {verb} not select {described(name, labels)}")


def port_mismatch(entry: Entry, protocol: int, port: int, ports: tuple[ContainerPort, ...]) -> Mismatch:
    """`ports` are the named ports of the destination."""
    specs = [spec for rule in entry.port_rules or () for spec in rule.ports]
    there = port_words(protocol, port)
    if not specs:
        return Mismatch("port", "port: the entry names no port")
    wanted = _clipped(", ".join(dict.fromkeys(_spec_words(spec, ports) for spec in specs)))
    return Mismatch("port", f"port: {there} {'is not' if len(specs) == 1 else 'is none of'} {wanted}")


def names_port(entry: Entry, protocol: int, port: int, ports: tuple[ContainerPort, ...]) -> bool:
    """Is the port one of the entry's, if the destination gives names these numbers?"""
    if entry.port_rules is None:
        return True
    return any(_is_port(spec, protocol, port, ports) for rule in entry.port_rules for spec in rule.ports)


def _is_port(spec: PortSpec, protocol: int, port: int, ports: tuple[ContainerPort, ...]) -> bool:
    if spec.name:
        return any((found.protocol, found.first) == (protocol, port) for found in own_ports(spec, ports))
    return protocol in spec.protocols and spec.first <= port <= spec.last


def peer_words(peer: Peer) -> str:
    match peer:
        case Selector():
            return str(peer)
        case CidrBlock():
            return f"{peer.network}{_except(peer.excepts)}"
        case Entity():
            return f"entity {peer.value}"
        case GroupPeer():
            return f"CIDR group {peer.name or peer.selector}{_except(peer.excepts)}"
        case ServicePeer():
            return f"service {peer.namespace or '*'}/{peer.name or peer.selector}"
        case FqdnPeer():
            return f"name {peer}"


def _except(networks: Iterable[object]) -> str:
    texts = ", ".join(map(str, networks))
    return f" except {texts}" if texts else ""


def port_words(protocol: int, port: int) -> str:
    """`80/TCP`; for ICMP the type, `8/ICMP`."""
    return f"{port}/{_protocol_words(protocol)}"


def _protocol_words(protocol: int) -> str:
    if protocol == Protocol.ICMPV6:
        return "ICMPv6"
    return Protocol(protocol).name if protocol in Protocol.__members__.values() else str(protocol)


def _spec_words(spec: PortSpec, ports: tuple[ContainerPort, ...]) -> str:
    protocols = "ANY" if spec.protocols == _WITH_PORTS else "+".join(map(_protocol_words, spec.protocols))
    if spec.name:
        numbers = ", ".join(port_words(found.protocol, found.first) for found in own_ports(spec, ports))
        return f"{spec.name}/{protocols} ({numbers or 'no port of the destination'})"
    if (spec.first, spec.last) == (0, 65535):
        return f"any/{protocols}"
    return f"{spec.first}/{protocols}" if spec.first == spec.last else f"{spec.first}-{spec.last}/{protocols}"


def described(name: str, labels: Iterable[str]) -> str:
    """`shop/cart (app=cart)`: with the labels that somebody gave it."""
    texts = _clipped(",".join(sorted(filter(None, map(_label_words, labels)))))
    return f"{name} ({texts})" if texts and texts != f"reserved:{name}" else name


def _label_words(text: str) -> str:
    source, key, value = parse_label(text)
    if source == K8S and (key in _GIVEN or key.startswith(NAMESPACE_LABELS)):
        return ""
    name = key if source == K8S else f"{source}:{key}"
    return f"{name}={value}" if value or source == K8S else name


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"
