"""Names of ports → numbers. Ingress asks the endpoint itself, egress asks the peers.

A name that nobody has opens nothing. Peers that are not pods have no ports of their own: for them, and for "any
peer", a name means every number that some pod gives it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from config.policy.resolved import ContainerPort, PortRange
from config.policy.rules import PortSpec

_Ids = frozenset[int]


def own_ports(spec: PortSpec, ports: tuple[ContainerPort, ...]) -> tuple[PortRange, ...]:
    """The numbers that one endpoint gives a named port."""
    found = {
        PortRange(int(port.protocol), port.port, port.port)
        for port in ports
        if port.name.lower() == spec.name and port.protocol in spec.protocols
    }
    return tuple(sorted(found, key=lambda item: (item.protocol, item.first)))


class NamedPorts:
    """The named ports of all endpoints, by identity."""

    def __init__(self, endpoints: Iterable[tuple[int, tuple[ContainerPort, ...]]]) -> None:
        by_identity: defaultdict[int, set[ContainerPort]] = defaultdict(set)
        for identity, ports in endpoints:
            by_identity[identity].update(ports)
        self._by_identity = {
            identity: tuple(sorted(ports, key=lambda port: (port.name, port.protocol, port.port)))
            for identity, ports in by_identity.items()
        }
        self._all = tuple(sorted({port for ports in self._by_identity.values() for port in ports}, key=str))

    def of_peers(
        self, named: tuple[PortSpec, ...], identities: _Ids | None
    ) -> Iterator[tuple[tuple[PortRange, ...], _Ids | None]]:
        """The numbers, each time with the peers for which they hold."""
        if not named:
            return
        if identities is None:
            ports = _together(named, self._all)
            if ports:
                yield ports, None
            return
        groups: defaultdict[tuple[PortRange, ...], set[int]] = defaultdict(set)
        for identity in identities:
            groups[_together(named, self._by_identity.get(identity, self._all))].add(identity)
        for ports in sorted(groups, key=str):
            if ports:
                yield ports, frozenset(groups[ports])


def _together(named: tuple[PortSpec, ...], ports: tuple[ContainerPort, ...]) -> tuple[PortRange, ...]:
    found = {item for spec in named for item in own_ports(spec, ports)}
    return tuple(sorted(found, key=lambda item: (item.protocol, item.first)))
