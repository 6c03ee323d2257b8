"""Documents and endpoints → `Snapshot`, the same for any order of files, and at the cost of what changed.

Each entry's peers become a set of identities, once per distinct peer. Endpoints that the same rules are about, and that
give named ports the same numbers, share a policy. A `Resolver` keeps all that: at the next change it compiles the
documents that changed and those whose peers mean somebody else now, and makes anew the policies of the endpoints that
these are about. What did not change is the same object in the next snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from config.endpoints import EndpointsFile
from config.identity import Reserved
from config.policy.compile import Compiled, Compiler, DocumentKey, RuleKey, Unit, unit_of
from config.policy.mismatch import peer_words
from config.policy.named_ports import own_ports
from config.policy.origins import DEFAULT_ALLOW, HOST_ACCESS, Origins
from config.policy.outside import Outside
from config.policy.references import References, expand
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    FqdnPeer,
    PolicyName,
    Rule,
    Snapshot,
)
from config.policy.rules import Document, Peer
from config.policy.selectors import Selector
from config.settings import Settings


def resolve(
    documents: Iterable[Document],
    endpoints: EndpointsFile,
    settings: Settings,
    revision: int,
    references: References | None = None,
) -> Snapshot:
    """Everything that is to be enforced."""
    return Resolver(settings).update(documents, endpoints, references or References(), revision)


@dataclass(frozen=True, slots=True)
class Selection:
    """A peer as policies name it, which policies do, how often, and the identities it means."""

    selector: str
    policies: tuple[PolicyName, ...]
    users: int
    identities: tuple[int, ...]


class Resolver:
    """Resolves one state after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start_over(EndpointsFile(), References())

    def _start_over(self, endpoints: EndpointsFile, references: References) -> None:
        self._outside = Outside(endpoints, audit=self._settings.policy_audit_mode)
        self._cluster = self._outside.cluster
        self._references = references
        self._units: dict[DocumentKey, Unit] = {}
        self._origins = Origins()
        self._compiled: dict[DocumentKey, tuple[Compiled, ...]] = {}
        self._by_subject: defaultdict[Selector, dict[RuleKey, Compiled]] = defaultdict(dict)
        self._subjects: defaultdict[int, set[Selector]] = defaultdict(set)
        """Identity of pods of this node → the subjects of rules that select it."""
        self._policies: dict[int, EndpointPolicy] = {}

    def update(
        self, documents: Iterable[Document], endpoints: EndpointsFile, references: References, revision: int
    ) -> Snapshot:
        """The snapshot of this state. Of two documents about one object the first by file and line counts."""
        wanted = first_of_each(documents)
        changes: dict[DocumentKey, Document | None] = dict.fromkeys(self._units.keys() - wanted.keys())
        for key, document in wanted.items():
            known = self._units.get(key)
            if known is None or (known.document is not document and known.document != document):
                changes[key] = document
        return self.change(changes, endpoints, references, revision)

    def change(
        self,
        changes: Mapping[DocumentKey, Document | None],
        endpoints: EndpointsFile,
        references: References,
        revision: int,
    ) -> Snapshot:
        """The snapshot of a state that differs from the last one in these documents; None: it is gone."""
        if endpoints is not self._cluster.file and endpoints != self._cluster.file:
            known: dict[DocumentKey, Document | None] = {key: unit.document for key, unit in self._units.items()}
            changes = known | dict(changes)
            self._start_over(endpoints, references)
        outdated = set(changes)
        if references is not self._references and references != self._references:
            outdated |= {key for key, unit in self._units.items() if unit.refers}
        self._references = references
        removed = [self._units.pop(key) for key in sorted(outdated & self._units.keys())]
        wanted = {unit.key: unit.document for unit in removed} | dict(changes)
        added = [unit_of(document, references) for key in sorted(outdated) if (document := wanted.get(key)) is not None]
        self._units.update((unit.key, unit) for unit in added)
        to_compile = {unit.key for unit in added}
        to_compile |= self._origins.update(added, removed)
        to_compile |= self._outside.update(added, removed)
        self._update_policies(self._compile(to_compile, removed))
        return Snapshot(
            revision=revision,
            endpoints=self._cluster.endpoints,
            policies=self._policies,
            ipcache=self._outside.ipcache,
            identities=self._outside.identities,
            origins=self._origins.by_id,
            services=self._settings.service_cidrs,
        )

    def selections(self) -> list[Selection]:
        """Every peer that policies name, with whom it means now; the most used first."""
        users: defaultdict[Peer, list[DocumentKey]] = defaultdict(list)
        for unit in self._units.values():
            for rule in unit.document.rules:
                for entry in rule.entries:
                    for peer in entry.peers or ():
                        users[peer].append(unit.key)
        found = [self._selection(peer, keys) for peer, keys in users.items()]
        return sorted(found, key=lambda item: (-item.users, item.selector))

    def _selection(self, peer: Peer, keys: list[DocumentKey]) -> Selection:
        meant = self._cluster.select_any(expand(peer, self._references))
        if isinstance(peer, FqdnPeer):
            meant = self._outside.names.having(peer)
        identities = tuple(sorted(self._outside.identities if meant is None else meant))
        owners = tuple(PolicyName(*key) for key in sorted(set(keys)))
        return Selection(peer_words(peer), owners, len(keys), identities)

    def _compile(self, keys: set[DocumentKey], removed: Iterable[Unit]) -> set[Selector]:
        """Compiles these documents; the subjects of all rules that are other ones now."""
        touched: set[Selector] = set()
        for key in {unit.key for unit in removed} | keys:
            for rule in self._compiled.pop(key, ()):
                del self._by_subject[rule.subject][rule.key]
                touched.add(rule.subject)
        compiler = Compiler(self._cluster, self._outside.names, self._origins.by_name, self._references.secrets)
        for key in keys:
            rules = self._compiled[key] = compiler.compile(self._units[key])
            for rule in rules:
                self._by_subject[rule.subject][rule.key] = rule
                touched.add(rule.subject)
        return touched

    def _update_policies(self, touched: Iterable[Selector]) -> None:
        """New policies for the endpoints that these subjects select."""
        local = self._cluster.local
        affected: set[int] = set() if self._policies else set(local)
        for subject in touched:
            is_used = bool(self._by_subject[subject])
            if not is_used:
                del self._by_subject[subject]
            for identity in self._cluster.index.select(subject) & local.keys():
                affected.add(identity)
                (self._subjects[identity].add if is_used else self._subjects[identity].discard)(subject)
        if not affected:
            return
        policies, shared = dict(self._policies), dict[object, EndpointPolicy]()
        for identity in affected:
            for endpoint in local[identity]:
                policy = self._policy_of(endpoint, self._subjects[identity], shared)
                if policies.get(endpoint.id) != policy:
                    policies[endpoint.id] = policy
        self._policies = policies

    # Endpoints

    def _policy_of(
        self, endpoint: Endpoint, subjects: set[Selector], shared: dict[object, EndpointPolicy]
    ) -> EndpointPolicy:
        rules = [rule for subject in subjects for rule in self._by_subject[subject].values()]
        names = {spec for rule in rules for part in rule.parts[Direction.INGRESS] for spec in part.named}
        key = (frozenset(subjects), frozenset((spec, own_ports(spec, endpoint.ports)) for spec in names))
        policy = shared.get(key)
        if policy is None:
            rules.sort(key=lambda rule: rule.key)
            ingress = self._direction(Direction.INGRESS, rules, endpoint)
            policy = shared[key] = EndpointPolicy(ingress, self._direction(Direction.EGRESS, rules, endpoint))
        return policy

    def _direction(self, direction: Direction, rules: list[Compiled], endpoint: Endpoint) -> DirectionPolicy:
        mode = self._settings.enable_policy
        governing = [rule for rule in rules if rule.governs[direction]]
        if mode == "never" or (mode == "default" and not governing):
            return DirectionPolicy(enforced=False)
        found = [made for rule in governing for part in rule.parts[direction] for made in part.finish(endpoint.ports)]
        denying = [rule for rule in governing if rule.default_deny[direction]]
        if mode == "default" and not denying:
            found.append(Rule(DEFAULT_ALLOW, None, None))
        if direction is Direction.INGRESS and self._settings.allow_localhost != "policy":
            found.append(Rule(HOST_ACCESS, frozenset((int(Reserved.HOST),)), None))
        owners = tuple(dict.fromkeys(rule.owner for rule in governing))
        only_tried = mode == "default" and bool(denying) and all(rule.audit for rule in denying)
        return DirectionPolicy(True, tuple(found), owners, only_tried)


def first_of_each(documents: Iterable[Document]) -> dict[DocumentKey, Document]:
    found: dict[DocumentKey, Document] = {}
    for document in documents:
        known = found.setdefault(document.key, document)
        if known is not document and (document.file, document.line) < (known.file, known.line):
            found[document.key] = document
    return found
