"""Answers that open addresses: the map `names` is written before an answer goes on, and the agent told afterwards.

An answer that has been seen is not taken apart again, and until the agent must hear of it anew, a lookup in a
dictionary is all it costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from time import monotonic_ns
from typing import Final

from config.policy.name_groups import NameMatcher, name_matcher
from config.policy.resolved import EndpointPolicy
from parsers.dns.answer import read_answer
from parsers.dns.message import Query
from proxy.datapath import BpfError, MapFull, NamesMap, boottime
from proxy.worker.options import NameOptions
from proxy.worker.reports import Reports

GRACE_S: Final = 5
"""That an address stays open beyond its time: a client that has just been told it must get there."""

_FRESH_NS: Final = 2_000_000_000
"""For so long the same answer needs no new report. Must be well below the grace."""

MAX_MEMO: Final = 16384
"""Answers remembered, of all endpoints: at most some 35 MiB."""

_MEMO_BYTES: Final = 512
"""Longer ones are not."""


@dataclass(slots=True)
class _Seen:
    """An answer behind its id, and what it opens: `addresses` to `groups`, for `ttl` seconds. `fresh_until`: there is
    nothing to do for the same one, monotonic ns.
    """

    body: bytes
    addresses: list[bytes]
    groups: tuple[int, ...]
    ttl: int
    fresh_until: int = 0


_Memo = dict[bytes, _Seen]
"""By question."""


class ProtectedAddresses:
    """Addresses that no name opens, whatever an answer says."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._ranges: dict[int, tuple[list[bytes], list[bytes]]] = {}
        known = tuple(networks)
        for size, version in ((4, 4), (16, 6)):
            mine = sorted((n for n in known if n.version == version), key=lambda n: (n.network_address, n.prefixlen))
            # Prefixes nest or are disjoint: what lies in a wider one adds nothing.
            outer = [n for place, n in enumerate(mine) if not any(_lies_in(n, other) for other in mine[:place])]
            starts = [n.network_address.packed for n in outer]
            self._ranges[size] = starts, [n.broadcast_address.packed for n in outer]

    def __contains__(self, address: bytes) -> bool:
        """`address`: 4 or 16 bytes."""
        starts, ends = self._ranges[len(address)]
        place = bisect_right(starts, address) - 1
        return place >= 0 and address <= ends[place]


def _lies_in(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


class Openings:
    """What the openers of all endpoints share."""

    def __init__(self, names: NamesMap, options: NameOptions, reports: Reports) -> None:
        self.names = names
        self.options = options
        self.protected = ProtectedAddresses(options.protected)
        self.reports = reports
        self._memos: dict[int, _Memo] = {}
        self._remembered = 0

    def memo(self, endpoint: int) -> _Memo:
        """What is remembered of an endpoint; empty at first."""
        known = self._memos[endpoint] = {}
        return known

    def remember(self, memo: _Memo, question: bytes, seen: _Seen) -> None:
        if len(seen.body) > _MEMO_BYTES:
            return
        if question not in memo:
            if self._remembered >= MAX_MEMO:
                for known in self._memos.values():
                    known.clear()
                self._remembered = 0
            self._remembered += 1
        memo[question] = seen


class Opener:
    """`parsers.dns.judging.Opener` of one endpoint under one policy."""

    def __init__(self, shared: Openings, endpoint: int, policy: EndpointPolicy) -> None:
        self._shared = shared
        self._endpoint = endpoint
        self._matcher: NameMatcher = name_matcher(policy.egress)
        self._known = shared.memo(endpoint)
        self._cuts = shared.names.cuts
        self._window = 0
        self._left = 0

    def open(self, query: Query, answer: bytes) -> bytes:
        """The answer behind its id; the same as before is the very same object. Empty: the addresses could not be
        opened, so the answer must not go out. Raises DnsError if it is broken.
        """
        now, shared = monotonic_ns(), self._shared
        cuts = shared.names.cuts
        if cuts != self._cuts:
            self._cuts = cuts
            self._known.clear()
        body = answer[2:]
        seen = self._known.get(query.question)
        if seen is None or seen.body != body:
            seen = self._read(query, answer, body)
        elif now < seen.fresh_until:
            return seen.body
        if seen.addresses:
            if seen.groups and not self._write(seen, now):
                return b""
            shared.reports.learnt(self._endpoint, query.facts.name, seen.addresses, seen.ttl, now)
        seen.fresh_until = now + _FRESH_NS
        shared.remember(self._known, query.question, seen)
        return seen.body

    def _read(self, query: Query, answer: bytes, body: bytes) -> _Seen:
        learnt = read_answer(answer, query)
        addresses = self._permitted(learnt.addresses)
        groups = self._matcher.groups(query.facts.name) if addresses else ()
        return _Seen(body, addresses, groups, learnt.ttl)

    def _permitted(self, addresses: tuple[bytes, ...]) -> list[bytes]:
        shared = self._shared
        found = [address for address in addresses if address not in shared.protected]
        if len(found) < len(addresses):
            shared.reports.counters["names.protected"] += len(addresses) - len(found)
        if len(found) > shared.options.addresses_per_name:
            shared.reports.limit("tofqdns_endpoint_max_ip_per_hostname")
            del found[shared.options.addresses_per_name :]
        return found

    def _write(self, seen: _Seen, now: int) -> bool:
        shared = self._shared
        if not self._may_open(len(seen.addresses), now):
            shared.reports.limit("dns_max_addresses")
            return False
        until = boottime() + max(seen.ttl, shared.options.min_ttl) + GRACE_S
        try:
            shared.names.open(self._endpoint, seen.addresses, seen.groups, until, shared.options.max_delay_s)
        except MapFull:
            shared.reports.limit("bpf_names_map_max")
            return False
        except TimeoutError:
            shared.reports.limit("tofqdns_proxy_response_max_delay")
            return False
        except BpfError:
            shared.reports.counters["names.failed"] += 1
            return False
        return True

    def _may_open(self, count: int, now: int) -> bool:
        """An endpoint can open as many addresses in a second as it may have; the agent takes away what is too much."""
        window = now // 1_000_000_000
        if window != self._window:
            self._window, self._left = window, self._shared.options.addresses_per_endpoint
        self._left -= count
        return self._left >= 0
