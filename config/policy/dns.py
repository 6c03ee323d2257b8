"""`rules.dns` on queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from config.policy.dns_names import canonical, selects
from config.policy.faults import Fault, told
from config.policy.name_index import NameIndex
from config.policy.resolved import DnsRule, Origin
from parsers.facts import DnsQuery


class DnsMatcher:
    """`rules`: each DNS rule with the id of the origin that it came from. Costs the same for one rule and many."""

    __slots__ = ("_index", "_owners", "_rules")

    def __init__(self, rules: Sequence[tuple[DnsRule, int]]) -> None:
        self._rules = tuple(rules)
        selectors: list[tuple[str, str]] = []
        self._owners: list[int] = []
        for place, (rule, _) in enumerate(rules):
            # A rule may have a name and a glob: either will do.
            wanted = [(rule.name, "")] if rule.name or not rule.pattern else []
            wanted += [("", rule.pattern)] if rule.pattern else []
            selectors += wanted
            self._owners += [place] * len(wanted)
        self._index = NameIndex(selectors)

    def judge(self, query: DnsQuery) -> int | None:
        """The origin id of the first rule that permits the query, or None."""
        first = len(self._rules)
        for found in self._index.match(canonical(query.name)):
            place = self._owners[found]
            types = self._rules[place][0].query_types
            if place < first and (not types or query.query_type in types):
                first = place
        return self._rules[first][1] if first < len(self._rules) else None

    def explain(self, query: DnsQuery, origins: Mapping[int, Origin]) -> str:
        return told(self._rules, lambda rule: dns_faults(rule, query), origins, "DNS")


def dns_faults(rule: DnsRule, query: DnsQuery) -> list[Fault]:
    """Everything of the rule that the query does not satisfy."""
    found: list[Fault] = []
    name = canonical(query.name)
    by_name = (bool(rule.name) or not rule.pattern) and name == rule.name
    if not by_name and not (rule.pattern and selects("", rule.pattern, name)):
        wanted = " or ".join(f'"{text}"' for text in (rule.name, rule.pattern) if text) or 'the root "."'
        found.append(Fault("dns.name", f'name "{name or "."}" is not {wanted}'))
    if rule.query_types and query.query_type not in rule.query_types:
        found.append(Fault("dns.type", f"query type {query.query_type} is none of {', '.join(rule.query_types)}"))
    return found
