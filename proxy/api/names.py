"""`/v1/fqdn/cache` and `/v1/fqdn/names`: query parameters, and the shapes of the answers. Keys and values are Cilium's.

Names end with their dot, as there. A parameter that is not known is refused: what was meant to narrow a request must
not be overlooked, least of all where something is deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from config.policy.dns_names import pattern_fault, pattern_regex, selects
from config.policy.name_index import NameIndex
from config.policy.resolved import EndpointPolicy, FqdnPeer, Snapshot
from proxy.api.models import ApiError, Json, LearntName, Source
from proxy.flows.times import NS, TimeFormat, format_time

LIST: Final = ("endpoint", "matchpattern", "source")
CLEAN: Final = ("endpoint", "matchpattern")
SELECTED: Final = ("endpoint",)


@dataclass(frozen=True, slots=True)
class Asked:
    """What to list or forget. None: any."""

    endpoint: int | None = None
    pattern: str | None = None
    source: Source | None = None

    def has(self, learnt: LearntName) -> bool:
        return (
            self.endpoint in (None, learnt.endpoint)
            and self.source in (None, learnt.source)
            and (self.pattern is None or selects("", self.pattern, learnt.name))
        )


def parse(pairs: Iterable[tuple[str, str]], known: Sequence[str]) -> Asked:
    """ApiError 400 says which parameter is wrong. `known`: those that there are."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise ApiError(400, "bad-parameter", f"parameter {name!r} is given twice")
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ApiError(400, "bad-parameter", f"unknown parameter {name!r}", hint)
        given[name] = value
    return Asked(_endpoint(given), _pattern(given), _source(given))


def _endpoint(given: dict[str, str]) -> int | None:
    value = given.get("endpoint")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 5):
        raise ApiError(400, "bad-parameter", f"endpoint: expected its number, not {value!r}", "see /v1/endpoint")
    return int(value)


def _pattern(given: dict[str, str]) -> str | None:
    value = given.get("matchpattern")
    fault = pattern_fault(value) if value is not None else None
    if fault:
        raise ApiError(400, "bad-parameter", f"matchpattern: {fault}", "it is written like matchPattern in a policy")
    return value


def _source(given: dict[str, str]) -> Source | None:
    value = given.get("source")
    if value is None:
        return None
    try:
        return Source(value)
    except ValueError:
        words = " or ".join(Source)
        raise ApiError(400, "bad-parameter", f"source: expected {words}, not {value!r}") from None


def cache(learnt: Iterable[LearntName], asked: Asked) -> list[Json]:
    """Of each endpoint, by name."""
    return [
        {
            "fqdn": f"{item.name}.",
            "ips": [str(address) for address in item.addresses],
            "lookup-time": _time(item.looked_up_s),
            "ttl": item.ttl,
            "expiration-time": _time(item.expires_s),
            "endpoint-id": item.endpoint,
            "source": item.source.value,
        }
        for item in learnt
        if asked.has(item)
    ]


def selected(snapshot: Snapshot, learnt: Iterable[LearntName], asked: Asked) -> list[Json]:
    """What each selector of an endpoint's `toFQDNs` means now, for this endpoint."""
    addresses: defaultdict[int, dict[str, list[str]]] = defaultdict(dict)
    for item in learnt:
        found = addresses[item.endpoint].setdefault(item.name, [])
        found.extend(text for text in map(str, item.addresses) if text not in found)
    return [
        row
        for endpoint, policy in sorted(snapshot.policies.items())
        if asked.endpoint in (None, endpoint)
        for row in _selectors(endpoint, policy, addresses[endpoint])
    ]


def _selectors(endpoint: int, policy: EndpointPolicy, addresses: dict[str, list[str]]) -> list[Json]:
    identities: defaultdict[FqdnPeer, set[int]] = defaultdict(set)
    for rule in policy.egress.rules:
        if rule.names is not None:
            for peer in rule.names.selectors:
                identities[peer].add(rule.names.identity)
    peers = sorted(identities, key=str)
    index = NameIndex((peer.name, peer.pattern) for peer in peers)
    names: list[list[str]] = [[] for _ in peers]
    for name in sorted(addresses):
        for place in index.match(name):
            names[place].append(name)
    return [
        {
            "endpoint-id": endpoint,
            "selectorString": f"MatchName: {peer.name}, MatchPattern: {peer.pattern}",
            "regexString": _regex(peer),
            "matchName": peer.name,
            "matchPattern": peer.pattern,
            "identities": sorted(identities[peer]),
            "names": [{"fqdn": f"{name}.", "ips": addresses[name]} for name in mine],
        }
        for peer, mine in zip(peers, names, strict=True)
    ]


def _regex(peer: FqdnPeer) -> str:
    return pattern_regex(peer.pattern if peer.pattern and not peer.name else peer.name or ".")


def _time(seconds: float) -> str:
    return format_time(int(seconds) * NS, TimeFormat.RFC3339)
