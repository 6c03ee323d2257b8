"""Numbers → names: endpoints, labels and deciding policies of what workers and kernel report.

Answers with small values that the records keep, never with a snapshot: a ring full of old flows holds no old revision
alive. Rule ids belong to a revision, and reports arrive a moment after a change, so the origins of the last few
revisions stay at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from config.policy.resolved import Direction, DirectionPolicy, Origin, Rule, Snapshot
from config.policy.resolved import Endpoint as Workload
from proxy.flows.model import Deciding, Endpoint, Policy, PolicyMatch
from proxy.flows.reasons import label_texts

_NOT_ALLOWED: Final = "no rule allows it"
_KEPT_REVISIONS: Final = 16
_CACHE_LIMIT: Final = 65536
_NAMED_POLICIES: Final = 8
"""So many policies are named for a default deny; more would drown the flow."""

_NAMES: Final = 16
"""So many names of an address are told."""

NamesOf = Callable[[int, str], tuple[str, ...]]
"""(endpoint, address as text) → the names under which the endpoint has been told of the address, without final dots."""

OWN_KIND: Final = "Penstock"
"""`Origin.kind` of rules that Penstock adds by itself."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which policies decided, where the rule stands, how specific it is. `default_deny`: no rule allowed it."""

    policies: tuple[Policy, ...] = ()
    rule: str = ""
    file: str = ""
    line: int = 0
    default_deny: bool = False
    match: PolicyMatch = PolicyMatch.NONE
    revision: int = 0

    def deciding(self, reason: str) -> Deciding | None:
        """`reason`, in words, if there is more to say than that no rule allowed it."""
        if not (self.rule or self.default_deny or reason):
            return None
        why = reason or (_NOT_ALLOWED if self.default_deny else "")
        return Deciding(self.rule, self.file, self.line, why, self.default_deny, self.revision)

    def log(self, reason: str) -> str:
        """One line for `policy_log`."""
        if self.default_deny:
            names = ", ".join(f"{p.namespace}/{p.name}" if p.namespace else p.name for p in self.policies)
            who = f"default deny of {names}" if names else "default deny"
            return f"{who}: {reason or _NOT_ALLOWED}"
        where = f"{self.file}:{self.line}" if self.line else self.file
        place = " ".join(part for part in (self.rule, where) if part)
        return ": ".join(part for part in (place, reason) if part)


class Enricher:
    """Shared by all producers of one agent. `publish` each new snapshot before its first records arrive.

    `names_of` may be set later; without it addresses have no names.
    """

    def __init__(self, node_name: str = "", names_of: NamesOf | None = None) -> None:
        self.node_name = node_name
        self.names_of = names_of
        self._snapshot = Snapshot(0)
        self._origins: dict[int, Mapping[int, Origin]] = {}
        self._addresses: dict[str, Workload] | None = None
        self._sides: dict[tuple[int, int, str], Endpoint] = {}
        self._attributions: dict[tuple[int, int, int, int, bool], Attribution] = {}

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._origins[snapshot.revision] = snapshot.origins
        while len(self._origins) > _KEPT_REVISIONS:
            del self._origins[next(iter(self._origins))]
        self._addresses = None
        self._sides.clear()
        self._attributions.clear()

    def side(self, endpoint: int, identity: int, address: str) -> Endpoint:
        """One end of a connection. `endpoint` 0: known by its address only, perhaps a pod of another node."""
        key = (endpoint, identity, address)
        side = self._sides.get(key)
        if side is None:
            if len(self._sides) >= _CACHE_LIMIT:
                self._sides.clear()
            side = self._sides[key] = self._side(endpoint, identity, address)
        return side

    def _side(self, endpoint: int, identity: int, address: str) -> Endpoint:
        workload = self._snapshot.endpoints.get(endpoint) if endpoint else self._by_address().get(address)
        labels = self._snapshot.identities.get(identity)
        if labels is None:
            labels = workload.labels if workload is not None else frozenset()
        if workload is None:
            return Endpoint(endpoint, identity, labels=label_texts(labels))
        return Endpoint(
            workload.id if workload.is_local else 0,
            identity or workload.identity,
            namespace=workload.namespace,
            labels=label_texts(labels),
            pod_name=workload.name,
        )

    def names(self, endpoint: int, address: str) -> tuple[str, ...]:
        """What the endpoint of this node (0: none) knows the address by."""
        if self.names_of is None or not (endpoint and address):
            return ()
        return self.names_of(endpoint, address)[:_NAMES]

    def _by_address(self) -> dict[str, Workload]:
        if self._addresses is None:
            self._addresses = {
                str(address): workload
                for workload in self._snapshot.endpoints.values()
                for address in workload.addresses
            }
        return self._addresses

    def attribution(
        self, rule: int, revision: int, direction: Direction, endpoint: int, *, denied: bool
    ) -> Attribution:
        """Who decided. `endpoint` is the subject of `direction`; `revision` 0 means the current one."""
        revision = revision or self._snapshot.revision
        key = (rule, revision, direction, endpoint, denied)
        found = self._attributions.get(key)
        if found is None:
            if len(self._attributions) >= _CACHE_LIMIT:
                self._attributions.clear()
            found = self._attributions[key] = self._attribute(rule, revision, direction, endpoint, denied)
        return found

    def _attribute(self, rule: int, revision: int, direction: Direction, endpoint: int, denied: bool) -> Attribution:
        subject = self._snapshot.policies.get(endpoint)
        policy = subject.direction(direction) if subject is not None else None
        if rule:
            origin = self._origins.get(revision, {}).get(rule)
            if origin is None:
                return Attribution(revision=revision)
            match = _match(_find(policy, rule))
            named = () if origin.kind == OWN_KIND else (_policy(origin, revision),)
            return Attribution(named, origin.rule, origin.file, origin.line, False, match, revision)
        if not denied:
            return Attribution(match=PolicyMatch.ALL, revision=revision)
        return Attribution(_selecting(policy, revision), default_deny=True, revision=revision)


def _policy(origin: Origin, revision: int) -> Policy:
    return Policy(origin.name, origin.namespace, origin.kind, revision)


def _selecting(policy: DirectionPolicy | None, revision: int) -> tuple[Policy, ...]:
    """The policies that put a subject under default deny by selecting it, in a stable order."""
    if policy is None:
        return ()
    names = sorted(policy.enforced_by)[:_NAMED_POLICIES]
    return tuple(Policy(owner.name, owner.namespace, owner.kind, revision) for owner in names)


def _find(policy: DirectionPolicy | None, rule: int) -> Rule | None:
    return next((item for item in policy.rules if item.origin.id == rule), None) if policy is not None else None


def _match(rule: Rule | None) -> PolicyMatch:
    if rule is None:
        return PolicyMatch.L3_L4
    if rule.identities is None:
        return PolicyMatch.ALL if rule.ports is None else PolicyMatch.L4_ONLY
    return PolicyMatch.L3_ONLY if rule.ports is None else PolicyMatch.L3_L4
