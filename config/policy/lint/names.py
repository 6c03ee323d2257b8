"""Rules about DNS names, which need rules about DNS beside them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from config import codes
from config.policy.dns_names import selects
from config.policy.lint.covers import PortTable
from config.policy.lint.view import Item, Note, Part, View, note, rule_note
from config.policy.resolved import Direction, DnsRule, FqdnPeer, Protocol
from config.policy.rules import CidrBlock, PortSpec
from config.policy.selectors import Selector

DNS_PORT = 53
_DNS = tuple(PortSpec((int(protocol),), DNS_PORT, DNS_PORT) for protocol in (Protocol.UDP, Protocol.TCP))
_DNS_NAMES = ("dns", "domain")
_ALL_IPV4 = (CidrBlock(ip_network("0.0.0.0/0")),)


def names_never_learnt(view: View) -> Iterator[Note]:
    """Addresses of names are learnt from answers that pass DNS rules: these must be there, and let the names pass."""
    rules = _dns_rules(view)
    for item in view.items:
        names = _names(item)
        if not names:
            continue
        known = [rule for subject in view.covering(item.rule.subject) for rule in rules.get(subject, ())]
        if not known:
            message = "no DNS rule of the same endpoints shows which addresses these names have"
            yield note(codes.FQDN_NO_DNS, item, message, "toFQDNs")
            continue
        missing = [index for index, name in enumerate(names) if not any(_permits(rule, name) for rule in known)]
        for index in missing:
            message = f'no DNS rule of the same endpoints permits to ask for "{names[index]}"'
            yield note(codes.FQDN_NOT_ASKED, item, message, "toFQDNs", index)


def _names(item: Item) -> list[FqdnPeer]:
    if item.entry.deny:
        return []
    return [peer for peer in item.entry.peers or () if isinstance(peer, FqdnPeer)]


def _dns_rules(view: View) -> dict[Selector, dict[DnsRule, None]]:
    """By subject; each once, because large sets of policies repeat a few."""
    found: dict[Selector, dict[DnsRule, None]] = {}
    for part in view.parts:
        if part.l7 and not part.item.selects_nobody:
            known = found.setdefault(part.item.rule.subject, {})
            known.update((rule, None) for rule in part.l7 if isinstance(rule, DnsRule))
    return {subject: known for subject, known in found.items() if known}


def _permits(rule: DnsRule, name: FqdnPeer) -> bool:
    """Also when it is not certain: globs are compared by one text that they match."""
    sample = name.name or name.pattern.replace("*", "x")
    if rule.pattern and (rule.pattern == name.pattern or selects("", rule.pattern, sample)):
        return True
    return selects(rule.name, "", sample)


def names_on_all_ports(view: View) -> Iterator[Note]:
    """An address serves many names; without ports all that they serve is open."""
    for item in view.items:
        if _names(item) and item.entry.port_rules is None:
            yield note(codes.FQDN_NO_PORTS, item, "toFQDNs allows all ports of these addresses", "toFQDNs")


def names_beside_world(view: View) -> Iterator[Note]:
    """Who may reach every address outside needs no names."""
    for part in view.parts:
        names = _names(part.item)
        if not names or part.l7 is not None:
            continue
        other = _wider(view, part, names[0])
        if other is not None:
            message = f"{other.item.name} allows every address on the same port: the names restrict nothing"
            yield note(codes.FQDN_VOID, part.item, message, "toFQDNs")


def _wider(view: View, part: Part, name: FqdnPeer) -> Part | None:
    """Names mostly have IPv4 addresses, so that all of IPv4 is wide enough."""
    for table in view.plain(part.item):
        known = [ports for peer, ports in table.covering(name) if peer != name]
        known += [ports for block in _ALL_IPV4 if (ports := table.equal(block)) is not None]
        for ports in known:
            for spec in part.ports or (None,):
                for other in ports.covering(spec):
                    return other
    return None


def egress_without_dns(view: View) -> Iterator[Note]:
    """Pods whose egress is default deny cannot look names up unless DNS is allowed; said once for each policy."""
    allowing = {part.item.rule.subject for part in view.parts if _allows_dns(part)}
    told: set[int] = set()
    for document in view.documents:
        for index, rule in enumerate(document.rules):
            allows = any(e.direction is Direction.EGRESS and not e.deny and e.peers != () for e in rule.entries)
            silent = rule.default_deny[Direction.EGRESS] and allows and not rule.audit
            if silent and id(document) not in told and allowing.isdisjoint(view.covering(rule.subject)):
                told.add(id(document))
                message = "egress becomes default deny, and no rule for the same endpoints allows DNS"
                yield rule_note(codes.EGRESS_NO_DNS, document, index, message, "egress")


def _allows_dns(part: Part) -> bool:
    item = part.item
    if item.entry.deny or item.entry.direction is not Direction.EGRESS or item.selects_nobody:
        return False
    table: PortTable[Part] = PortTable()
    table.add(part.ports, part)
    named = any(spec.name.startswith(_DNS_NAMES) for spec in part.ports or ())
    return named or any(True for spec in _DNS for _ in table.overlapping(spec))
