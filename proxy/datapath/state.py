"""Snapshot → the desired state of the kernel's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Final

from bpf.addresses import Address, Network
from bpf.loader import Options
from bpf.tables import (
    HOST_IDENTITY,
    SERVICE_IDENTITY,
    DesiredState,
    EndpointFlag,
    LocalEndpoint,
    Policy,
    Row,
    RowKey,
    RowVerdict,
)
from config.policy.entries import EntryVerdict, policy_entries
from config.policy.resolved import Endpoint, EndpointPolicy, Snapshot

_VERDICTS: Final = {
    EntryVerdict.NONE: RowVerdict.NONE,
    EntryVerdict.ALLOW: RowVerdict.ALLOW,
    EntryVerdict.REDIRECT: RowVerdict.REDIRECT,
    EntryVerdict.DENY: RowVerdict.DENY,
}
_NO_ROWS: Final[Policy] = {}


class StateBuilder:
    """The tables of one snapshot after the other, at the cost of what changed.

    Pieces of a snapshot that are the same objects as in the last one become the same objects in the tables' state, too,
    and `Tables` knows by that what is in force already. `oversized`: endpoint id → rows of its policy, if those are
    more than `most_rows`: then the endpoint keeps what it had, and one that had nothing is closed.
    """

    def __init__(self, services: Iterable[Network] = (), most_rows: int = Options().policy_entries) -> None:
        self.oversized: Mapping[int, int] = {}
        self._most_rows = most_rows
        self._said: dict[int, tuple[EndpointFlag, Policy]] = {}  # by endpoint
        self._services = dict.fromkeys(services, SERVICE_IDENTITY)
        self._rows: dict[int, tuple[EndpointPolicy | None, Policy]] = {}  # by id, with what keeps the id taken
        self._prefixes: Mapping[Network, int] | None = None
        self._hosts: frozenset[Address] = frozenset()
        self._ipcache: Mapping[Network, int] = {}

    def build(
        self, snapshot: Snapshot, interfaces: Mapping[int, int], host_addresses: Iterable[Address]
    ) -> DesiredState:
        """`interfaces`: endpoint id → interface index, as far as found."""
        rows: dict[int, tuple[EndpointPolicy | None, Policy]] = {}
        endpoints: dict[Address, LocalEndpoint] = {}
        said: dict[int, tuple[EndpointFlag, Policy]] = {}
        oversized: dict[int, int] = {}
        for endpoint in snapshot.endpoints.values():
            if not endpoint.is_local:
                continue
            policy = snapshot.policies.get(endpoint.id)
            key = id(policy)
            if key not in rows:
                rows[key] = self._rows.get(key) or (policy, _rows(policy) if policy is not None else {})
            flags, own = _flags(endpoint, policy), rows[key][1]
            if len(own) > self._most_rows:
                oversized[endpoint.id] = len(own)
                flags, own = self._said.get(endpoint.id, (_flags(endpoint, None), _NO_ROWS))
            said[endpoint.id] = flags, own
            ifindex = interfaces.get(endpoint.id, 0)
            local = LocalEndpoint(endpoint.id, endpoint.identity, flags, ifindex, own)
            endpoints.update(dict.fromkeys(endpoint.addresses, local))
        self._rows, self._said, self.oversized = rows, said, oversized
        return DesiredState(endpoints, self._with_hosts(snapshot.ipcache, frozenset(host_addresses)))

    def _with_hosts(self, prefixes: Mapping[Network, int], hosts: frozenset[Address]) -> Mapping[Network, int]:
        if prefixes is not self._prefixes or hosts != self._hosts:
            # The node's own addresses are the host, whatever prefix of a rule covers them; and what the node translates
            # is nobody's, whatever rule names it.
            self._ipcache = {
                **self._without_services(prefixes),
                **self._services,
                **{ip_network(address): HOST_IDENTITY for address in hosts},
            }
            self._prefixes, self._hosts = prefixes, hosts
        return self._ipcache

    def _without_services(self, prefixes: Mapping[Network, int]) -> Mapping[Network, int]:
        if not self._services:
            return prefixes
        inside = frozenset(
            network
            for network in prefixes
            if any(network.version == one.version and network.subnet_of(one) for one in self._services)  # type: ignore[arg-type]  # same version: checked
        )
        return {network: identity for network, identity in prefixes.items() if network not in inside}


def desired_state(snapshot: Snapshot, interfaces: Mapping[int, int], host_addresses: Iterable[Address]) -> DesiredState:
    """The tables of one snapshot."""
    return StateBuilder().build(snapshot, interfaces, host_addresses)


def _flags(endpoint: Endpoint, policy: EndpointPolicy | None) -> EndpointFlag:
    flags = EndpointFlag.AUDIT if endpoint.audit else EndpointFlag(0)
    if policy is None:
        # An endpoint without a policy has none yet: closed, with no rows.
        return flags | EndpointFlag.ENFORCE_INGRESS | EndpointFlag.ENFORCE_EGRESS
    for section, enforced, tried in (
        (policy.ingress, EndpointFlag.ENFORCE_INGRESS, EndpointFlag.TRY_INGRESS),
        (policy.egress, EndpointFlag.ENFORCE_EGRESS, EndpointFlag.TRY_EGRESS),
    ):
        if section.enforced:
            flags |= enforced | tried if section.audit else enforced
    if any(rule.names for rule in policy.egress.rules):
        flags |= EndpointFlag.NAMES
    return flags


def _rows(policy: EndpointPolicy) -> Policy:
    entries = policy_entries(policy)
    rows = {value: Row(_VERDICTS[value.verdict], value.rule_id, value.audited) for value in set(entries.values())}
    return {RowKey._make(key): rows[value] for key, value in entries.items()}
