"""What a document that cannot be enforced may have been about, and the rule that stands in for it.

A policy that never could be read must not leave its pods open: whom it may select is default-deny in both directions
until it can be read. If it has deny rules – or nobody can tell – not even what other policies allow is let through.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from config.policy.model import LabelSelector
from config.policy.resolved import Direction
from config.policy.rules import Document, Entry, PolicyRule
from config.policy.scope import Scope
from config.policy.selectors import Selector
from config.policy.subjects import subject_selector
from config.yaml_values import Place, Value

_CLUSTERWIDE = frozenset(
    ("CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy")
)
_DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Lockdown:
    """Who may have been meant (everybody, if nothing is known), and whether something may have been denied."""

    subjects: tuple[Selector, ...] = (Selector(),)
    deny: bool = False


def may_select(value: Value) -> Lockdown:
    """The widest reading of a broken document."""
    kind, metadata = (value.get("kind"), value.get("metadata")) if isinstance(value, dict) else (None, None)
    if not isinstance(value, dict) or not isinstance(kind, str) or not isinstance(metadata, dict):
        return Lockdown(deny=mentions_deny(str(value)))
    namespace = "" if kind in _CLUSTERWIDE else metadata.get("namespace") or _DEFAULT_NAMESPACE
    if not isinstance(namespace, str):
        return Lockdown(deny=mentions_deny(str(value)))
    specs = value.get("specs")
    rules: list[Value] = [value["spec"]] if "spec" in value else []
    rules += specs if isinstance(specs, list) else []
    if rules and all(map(_is_about_nodes, rules)):
        return Lockdown(())
    about_pods = [rule for rule in rules if not _is_about_nodes(rule)]
    everybody = _subject({}, namespace)
    subjects = tuple(dict.fromkeys(_rule_subject(rule, namespace) for rule in about_pods)) or (everybody,)
    return Lockdown(subjects, deny=_denies(rules))


def mentions_deny(text: str) -> bool:
    """Text that nobody can understand may still be seen to speak of deny rules."""
    return "ingressDeny" in text or "egressDeny" in text


def _rule_subject(rule: Value, namespace: str) -> Selector:
    if not isinstance(rule, dict):
        return _subject({}, namespace)
    return _subject(rule.get("endpointSelector", rule.get("podSelector", {})), namespace)


def _is_about_nodes(rule: Value) -> bool:
    """Host policies select no pods, so pods need not suffer for them."""
    return isinstance(rule, dict) and "nodeSelector" in rule and "endpointSelector" not in rule


def _subject(value: Value, namespace: str) -> Selector:
    """The selector if it can be understood, else everybody in the namespace."""
    scope = Scope("", Place(0, 0), "", namespace)
    try:
        chosen = subject_selector(LabelSelector.model_validate(value), scope, ())
    except ValidationError:
        return _subject({}, namespace)
    return chosen if scope.ok else _subject({}, namespace)


def _denies(rules: Iterable[Value]) -> bool:
    return any(not isinstance(rule, dict) or "ingressDeny" in rule or "egressDeny" in rule for rule in rules)


def stand_in(lockdowns: Iterable[Lockdown], file: str) -> Document:
    """The document that is in force in place of what `file` should have said."""
    rules = [_locked(subject, item.deny) for item in lockdowns for subject in item.subjects]
    return Document(kind="Penstock", namespace="", name=f"unreadable:{file}", file=file, line=0, rules=tuple(rules))


def _locked(subject: Selector, deny: bool) -> PolicyRule:
    entries = tuple(Entry(direction, True, direction.name.lower(), 0, None, None) for direction in Direction)
    return PolicyRule(subject, entries if deny else (), (True, True), (True, True))
