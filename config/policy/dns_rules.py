"""`rules.dns` → `DnsRule`s, and `toFQDNs` → `FqdnPeer`s."""

from __future__ import annotations

import re

from config import codes
from config.findings import ValuePath
from config.policy.dns_names import canonical, name_fault, pattern_fault
from config.policy.model import DnsFields, FqdnFields
from config.policy.resolved import DnsRule, FqdnPeer
from config.policy.scope import Scope

MAX_PATTERNS = 1000
"""Patterns of one list: each costs memory in the program that all of them become."""

_NAMES = """
A NS CNAME SOA PTR HINFO MX TXT RP AFSDB SIG KEY AAAA LOC SRV NAPTR KX CERT DNAME OPT APL DS SSHFP IPSECKEY RRSIG NSEC
DNSKEY DHCID NSEC3 NSEC3PARAM TLSA SMIMEA HIP CDS CDNSKEY OPENPGPKEY CSYNC ZONEMD SVCB HTTPS SPF EUI48 EUI64 URI CAA
ANY AXFR IXFR NULL
"""
_TYPES = frozenset(_NAMES.split())
_NUMBERED = re.compile(r"TYPE(0|[1-9][0-9]{0,4})\Z")


def read_dns_rules(items: list[DnsFields], scope: Scope, path: ValuePath) -> tuple[DnsRule, ...]:
    if sum(1 for item in items if item.match_pattern) > MAX_PATTERNS:
        scope.add(codes.FQDN_BAD, path, f"more than {MAX_PATTERNS} patterns in one list", key=True)
        return ()
    return tuple(dict.fromkeys(_rule(item, scope, (*path, index)) for index, item in enumerate(items)))


def _rule(item: DnsFields, scope: Scope, path: ValuePath) -> DnsRule:
    types = tuple(dict.fromkeys(text.upper() for text in item.query_types or []))
    for index, text in enumerate(item.query_types or []):
        if text.upper() not in _TYPES and not _NUMBERED.match(text.upper()):
            scope.add(codes.QUERY_TYPE_BAD, (*path, "queryTypes", index), f'"{text[:80]}" is not a type of DNS query')
    if types:
        scope.add(codes.QUERY_TYPES, (*path, "queryTypes"), codes.QUERY_TYPES.title, key=True)
    return DnsRule(*_read(item, scope, path), types)


def read_fqdns(items: list[FqdnFields], scope: Scope, path: ValuePath) -> tuple[FqdnPeer, ...]:
    found: list[FqdnPeer] = []
    for index, item in enumerate(items):
        if item.match_name and item.match_pattern:
            scope.add(codes.FQDN_BOTH, (*path, index), "only one of matchName and matchPattern is possible in toFQDNs")
        found.append(FqdnPeer(*_read(item, scope, (*path, index))))
    return tuple(dict.fromkeys(found))


def _read(item: DnsFields | FqdnFields, scope: Scope, path: ValuePath) -> tuple[str, str]:
    """Name and pattern, in the form in which they are compared."""
    name, pattern = item.match_name or "", item.match_pattern or ""
    for key, text, problem in (
        ("matchName", name, name_fault(name) if name else None),
        ("matchPattern", pattern, pattern_fault(pattern) if pattern else None),
    ):
        if text and problem is not None:
            scope.add(codes.FQDN_BAD, (*path, key), problem)
    return canonical(name), pattern.strip().lower()
