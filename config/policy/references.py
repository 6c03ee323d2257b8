"""What policies refer to besides endpoints: CIDR groups, services, and secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from config.labels import parse_label
from config.policy.resolved import FqdnPeer, Network
from config.policy.rules import (
    CidrBlock,
    CidrGroup,
    Entity,
    GroupPeer,
    Peer,
    Referenced,
    Service,
    ServiceBackends,
    ServicePeer,
)
from config.policy.selectors import Selector, satisfies

Simple = Selector | CidrBlock | Entity | FqdnPeer
"""Peers that refer to nothing else."""


@dataclass(frozen=True, slots=True)
class References:
    """`secrets`: `namespace/name` → value."""

    groups: tuple[CidrGroup, ...] = ()
    services: tuple[Service, ...] = ()
    backends: tuple[ServiceBackends, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def references_of(
    objects: Iterable[Referenced],
    secrets: Mapping[str, str] | None = None,
) -> References:
    """Sorted, so that the order of files does not matter."""
    known = sorted(objects, key=lambda item: (item.file, item.line))
    return References(
        groups=tuple(sorted((o for o in known if isinstance(o, CidrGroup)), key=lambda o: o.name)),
        services=tuple(sorted((o for o in known if isinstance(o, Service)), key=lambda o: (o.namespace, o.name))),
        backends=tuple(o for o in known if isinstance(o, ServiceBackends)),
        secrets=dict(secrets or {}),
    )


def expand(peer: Peer, references: References, *, deny: bool = False) -> tuple[Simple, ...]:
    """What stands behind a peer that names groups or services; nobody, if they are not known.

    A deny rule with a group that cannot be read is about the whole world.
    """
    match peer:
        case GroupPeer():
            chosen = [group for group in references.groups if _is_meant(peer.name, peer.selector, group)]
            broken = [group for group in references.groups if group.is_broken]
            if deny and broken and (peer.selector is not None or any(group in broken for group in chosen)):
                return (Entity.WORLD,)
            blocks = (_without(network, peer.excepts) for group in chosen for network in group.networks)
            return tuple(dict.fromkeys(block for block in blocks if block is not None))
        case ServicePeer():
            return tuple(dict.fromkeys(_behind_services(peer, references)))
        case _:
            return (peer,)


def refers(peer: Peer) -> bool:
    """Does what the peer means depend on `References`?"""
    return isinstance(peer, GroupPeer | ServicePeer)


def _is_meant(name: str, chosen: Selector | None, item: CidrGroup | Service) -> bool:
    return item.name == name if chosen is None else satisfies(chosen, map(parse_label, item.labels))


def _without(network: Network, excepts: tuple[Network, ...]) -> CidrBlock | None:
    """The prefix without those exceptions that concern it; None if nothing is left."""
    same = [inner for inner in excepts if inner.version == network.version]
    if any(inner.prefixlen <= network.prefixlen and network.network_address in inner for inner in same):
        return None
    return CidrBlock(network, tuple(inner for inner in same if inner.network_address in network))


def _behind_services(peer: ServicePeer, references: References) -> Iterable[Simple]:
    for service in references.services:
        if peer.namespace not in ("", service.namespace) or not _is_meant(peer.name, peer.selector, service):
            continue
        if service.selector is not None:
            yield service.selector
            continue
        for backends in references.backends:
            if (backends.namespace, backends.service) == (service.namespace, service.name):
                yield from (CidrBlock(network) for network in backends.networks)
