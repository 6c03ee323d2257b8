"""What policies refer to besides endpoints: CIDR groups, services, secrets, and the addresses of DNS names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from config.policy.resolved import Address
from config.policy.rules import CidrGroup, Referenced, Service, ServiceBackends


@dataclass(frozen=True, slots=True)
class References:
    """`secrets`: `namespace/name` → value. `names`: DNS name (lower case, no final dot) → addresses."""

    groups: tuple[CidrGroup, ...] = ()
    services: tuple[Service, ...] = ()
    backends: tuple[ServiceBackends, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    names: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)


def references_of(
    objects: Iterable[Referenced],
    secrets: Mapping[str, str] | None = None,
    names: Mapping[str, tuple[Address, ...]] | None = None,
) -> References:
    """Sorted, so that the order of files does not matter."""
    known = sorted(objects, key=lambda item: (item.file, item.line))
    return References(
        groups=tuple(sorted((o for o in known if isinstance(o, CidrGroup)), key=lambda o: o.name)),
        services=tuple(sorted((o for o in known if isinstance(o, Service)), key=lambda o: (o.namespace, o.name))),
        backends=tuple(o for o in known if isinstance(o, ServiceBackends)),
        secrets=dict(secrets or {}),
        names=dict(names or {}),
    )
