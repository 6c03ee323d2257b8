"""Identities of addresses that DNS names were seen to have.

Addresses whose names satisfy the same selectors, and that lie in the same prefix of CIDR rules, share an identity: no
rule can tell them apart. An address whose names nobody selects has none and stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from types import MappingProxyType

from config.identity import FIRST_NAMED, LAST_NAMED, assign_numbers
from config.labels import CIDR, FQDN, WORLD_IPV4, WORLD_IPV6, cidr_key, label
from config.policy.dns import selects
from config.policy.resolved import Address, Network
from config.policy.rules import FqdnPeer

Ids = frozenset[int]


@dataclass(frozen=True, slots=True)
class Named:
    """What makes up the identity of an address with names. `prefix`: the longest of CIDR rules that covers it."""

    version: int
    selectors: frozenset[FqdnPeer]
    prefix: Network | None

    def __str__(self) -> str:
        return "\0".join((str(self.version), str(self.prefix), *sorted(map(str, self.selectors))))

    @property
    def labels(self) -> frozenset[str]:
        world = WORLD_IPV4 if self.version == 4 else WORLD_IPV6
        found = {f"{world}=", *(label(FQDN, str(selector)) for selector in self.selectors)}
        if self.prefix is not None:
            found.add(label(CIDR, cidr_key(self.prefix)))
        return frozenset(found)


class NameTable:
    """`addresses`: address → identity. `labels`: identity → its labels."""

    def __init__(
        self,
        names: Mapping[str, Iterable[Address]] = MappingProxyType({}),
        selectors: Iterable[FqdnPeer] = (),
        covering: Callable[[Network], Network | None] = lambda network: None,
    ) -> None:
        wanted = sorted(set(selectors), key=str)
        of_address: dict[Address, set[FqdnPeer]] = {}
        for name, addresses in names.items():
            matching = [selector for selector in wanted if selects(selector.name, selector.pattern, name)]
            for address in addresses:
                of_address.setdefault(address, set()).update(matching)
        named = {
            address: Named(address.version, frozenset(found), covering(ip_network(address)))
            for address, found in of_address.items()
            if found
        }
        kinds = {str(item): item for item in named.values()}
        numbers = assign_numbers(kinds, FIRST_NAMED, LAST_NAMED, "fqdn")
        self.addresses: Mapping[Address, int] = {address: numbers[str(item)] for address, item in named.items()}
        self.labels: Mapping[int, frozenset[str]] = {numbers[text]: item.labels for text, item in kinds.items()}
        self._kinds = {numbers[text]: item for text, item in kinds.items()}

    def select(self, peer: FqdnPeer) -> Ids:
        return frozenset(number for number, item in self._kinds.items() if peer in item.selectors)

    def within(self, network: Network) -> Ids:
        """Identities of named addresses inside a prefix of CIDR rules."""
        return frozenset(number for number, item in self._kinds.items() if _lies_in(item, network))

    def of_family(self, version: int) -> Ids:
        return frozenset(number for number, item in self._kinds.items() if item.version == version)


def _lies_in(item: Named, network: Network) -> bool:
    if item.version != network.version:
        return False
    if not network.prefixlen:
        return True
    inner = item.prefix
    return inner is not None and inner.prefixlen >= network.prefixlen and inner.network_address in network
