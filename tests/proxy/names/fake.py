"""The map `names` and the flows in memory, and a store whose clock a test drives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from config.policy.name_groups import NameMatcher
from config.policy.resolved import FqdnPeer, NameGroup, Origin, Rule
from proxy.datapath import MapFull, NameSlot
from proxy.names.store import NameStore, Pair, StoreLimits
from proxy.worker.openings import GRACE_S

EP = 7
START = 1000
MAX_SLOTS = 8

Slots = tuple[NameSlot, ...]


class FakeNames:
    """`NamesMap`: same methods, same rules. `error`: what every change fails with."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, bytes], dict[int, int]] = {}
        self.error: Exception | None = None
        self.cuts = 0
        self.before_change: Callable[[], None] | None = None

    def get(self, endpoint: int, address: bytes) -> Slots:
        return tuple(NameSlot(*slot) for slot in self.entries.get((endpoint, address), {}).items())

    def open(
        self, endpoint: int, addresses: Iterable[bytes], identities: Iterable[int], until: int, wait_s: float
    ) -> None:
        if self.error is not None:
            raise self.error
        wanted = tuple(identities)
        for address in addresses:
            slots = dict(self.entries.get((endpoint, address), {}))
            for identity in wanted:
                slots[identity] = max(until, slots.get(identity, 0))
            if len(slots) > MAX_SLOTS:
                raise MapFull("names", "update", 7, "full")
            if slots:
                self.entries[endpoint, address] = slots

    def change(self, endpoint: int, address: bytes, edit: Callable[[Slots], Iterable[NameSlot]], wait_s: float) -> None:
        if self.error is not None:
            raise self.error
        if self.before_change is not None:
            self.before_change()
        slots = dict(edit(self.get(endpoint, address)))
        if slots:
            self.entries[endpoint, address] = slots
        else:
            self.entries.pop((endpoint, address), None)

    def cut(self) -> None:
        self.cuts += 1

    def items(self) -> Iterator[tuple[int, bytes, Slots]]:
        for endpoint, address in list(self.entries):
            yield endpoint, address, self.get(endpoint, address)

    def groups(self, address: str, endpoint: int = EP) -> set[int]:
        return set(self.entries.get((endpoint, packed(address)), {}))


def packed(address: str) -> bytes:
    return ip_address(address).packed


def peer(text: str) -> FqdnPeer:
    return FqdnPeer(pattern=text) if "*" in text else FqdnPeer(name=text)


def group(identity: int, *selectors: str) -> NameGroup:
    return NameGroup(identity, frozenset(map(peer, selectors)))


def rule(named: NameGroup) -> Rule:
    return Rule(
        Origin(1, "CiliumNetworkPolicy", "default", "out", "egress[0]"), frozenset({named.identity}), None, names=named
    )


def matcher(**groups: str) -> NameMatcher:
    """`g11="a.com *.b.com"` → group 11."""
    return NameMatcher(group(int(key[1:]), *text.split()) for key, text in groups.items())


ANY = matcher(g11="*")


class Scene:
    """A store with workers that write before they report, and a clock."""

    def __init__(self, limits: StoreLimits | None = None, matching: NameMatcher = ANY, endpoint: int = EP) -> None:
        self.map = FakeNames()
        self.store = NameStore(self.map, limits)
        self.limits = limits or StoreLimits()
        self.now = START
        self.matchers: dict[int, NameMatcher] = {}
        self.policy(matching, endpoint)

    def policy(self, matching: NameMatcher, endpoint: int = EP) -> bool:
        """A change of policy as the agent does it. True: what is under way must be judged again."""
        if self.store.assign(endpoint, matching):
            self.store.prepare(endpoint, self.now)
        self.matchers[endpoint] = matching
        return self.store.withdraw(endpoint, self.now)

    def write(self, name: str, addresses: Iterable[str], ttl: int, endpoint: int = EP) -> None:
        """What a worker does before an answer goes on."""
        until = self.now + max(ttl, self.limits.min_ttl) + GRACE_S
        self.map.open(endpoint, map(packed, addresses), self.matchers[endpoint].groups(name), until, 1)

    def look_up(self, name: str, *addresses: str, ttl: int = 60, endpoint: int = EP) -> None:
        self.write(name, addresses, ttl, endpoint)
        self.store.learn(endpoint, name, map(packed, addresses), ttl, self.now)

    def check(self, *live: str, endpoint: int = EP) -> set[str]:
        """A look at the connections; what was due."""
        due = self.store.due(self.now)
        pairs: set[Pair] = {(endpoint, packed(address)) for address in live}
        self.store.settle(due, pairs & due, self.now)
        self.store.trim(self.now)
        return {str(ip_address(address)) for _, address in due}

    def after(self, seconds: int) -> Scene:
        self.now += seconds
        return self

    def open(self, endpoint: int = EP) -> set[str]:
        return {str(ip_address(address)) for number, address in self.map.entries if number == endpoint}

    def known(self, endpoint: int = EP) -> dict[str, set[str]]:
        """Name → addresses, expired ones among them."""
        found: dict[str, set[str]] = {}
        for item in self.store.entries():
            if item.endpoint == endpoint:
                found.setdefault(item.name, set()).add(str(ip_address(item.address)))
        return found

    def current(self, endpoint: int = EP) -> dict[str, set[str]]:
        """Name → addresses whose time is not up."""
        found: dict[str, set[str]] = {}
        for item in self.store.entries():
            if item.endpoint == endpoint and item.lease.expires > self.now:
                found.setdefault(item.name, set()).add(str(ip_address(item.address)))
        return found
