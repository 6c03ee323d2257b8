"""Label selectors of policies → `Selector`, with the namespace that Cilium adds to each.

A namespaced policy is about pods of its own namespace, and so are its peers unless they speak of namespaces
themselves; a cluster-wide policy's peers are pods of any namespace, not nodes or the world.
"""

from __future__ import annotations

import re

from config import codes
from config.findings import ValuePath
from config.labels import ANY, K8S, NAMESPACE_LABELS, POD_NAMESPACE, RESERVED, split_key
from config.policy.model import LabelSelector, PeerSelector
from config.policy.scope import Scope
from config.policy.selectors import Operator, Selector, Term, equals, exists, selector

_NAMESPACE_KEY = f"{K8S}:{POD_NAMESPACE}"
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_LONGEST_VALUE = 63


def read_selector(fields: LabelSelector, scope: Scope, path: ValuePath, prefix: str = "") -> tuple[Term, ...]:
    """The terms as written; every key gets `prefix` in front."""
    terms: list[Term] = []
    for key, value in (fields.match_labels or {}).items():
        where = (*path, "matchLabels", key)
        if not key:
            scope.add(codes.SELECTOR_BAD, where, "invalid label selector: an empty key", key=True)
        if not _VALUE.match(value) or len(value) > _LONGEST_VALUE:
            scope.add(codes.SELECTOR_BAD, where, f'invalid label selector: "{value[:80]}" is not the value of a label')
        terms.append(equals(prefix + key, value))
    for index, expression in enumerate(fields.match_expressions or []):
        where = (*path, "matchExpressions", index)
        operator, values = Operator(expression.operator), tuple(sorted(set(expression.values or [])))
        wants_values = operator in (Operator.IN, Operator.NOT_IN)
        if not expression.key:
            scope.add(codes.SELECTOR_BAD, where, "invalid label selector: an empty key")
        if wants_values != bool(values):
            needs = "needs values" if wants_values else "takes no values"
            scope.add(codes.SELECTOR_BAD, where, f"invalid label selector: operator {operator} {needs}")
        source, key = split_key(prefix + expression.key)
        terms.append(Term(source, key, operator, values))
    return tuple(terms)


def subject_selector(fields: LabelSelector, scope: Scope, path: ValuePath) -> Selector:
    """Whom the rule is about."""
    terms = read_selector(fields, scope, path)
    if not scope.namespace:
        return selector(*terms)
    kept: list[Term] = []
    for term in terms:
        if _names_namespace(term) and term.operator is Operator.IN and len(term.values) == 1:
            if term.values[0] != scope.namespace:
                message = (
                    f'the namespace "{term.values[0]}" of the selector is replaced by "{scope.namespace}", '
                    "the policy's own"
                )
                scope.add(codes.NAMESPACE_FORCED, path, message)
            continue
        kept.append(term)
    return selector(*kept, equals(_NAMESPACE_KEY, scope.namespace))


def is_about_init(subject: Selector) -> bool:
    """Subjects that are pods whose labels are not known yet have no namespace label."""
    return any(term.source == RESERVED and term.key == "init" for term in subject.terms)


def peer_selector(fields: PeerSelector, scope: Scope, path: ValuePath, about_init: bool) -> Selector:
    """With whom traffic is meant."""
    terms = read_selector(fields, scope, path)
    if fields.namespace_selector is not None:
        return _beside_namespaces(terms, fields.namespace_selector, scope, path)
    if any(term.source == RESERVED for term in terms):
        return selector(*terms)
    if any(_names_namespace(term) for term in terms):
        return selector(*terms)
    if not scope.namespace:
        return selector(*terms) if about_init else selector(*terms, exists(_NAMESPACE_KEY))
    if any(_names_namespace_label(term) for term in terms):
        return selector(*terms)
    return selector(*terms, equals(_NAMESPACE_KEY, scope.namespace))


def _beside_namespaces(terms: tuple[Term, ...], chosen: LabelSelector, scope: Scope, path: ValuePath) -> Selector:
    """Pods with these labels in namespaces with those labels."""
    where = (*path, "namespaceSelector")
    scope.add(
        codes.NAMESPACE_SELECTOR,
        where,
        "namespaceSelector beside matchLabels: taken as pods with these labels in namespaces with those labels",
        key=True,
    )
    inside = read_selector(chosen, scope, where, prefix=f"{K8S}:{NAMESPACE_LABELS}")
    return selector(*terms, *inside, exists(_NAMESPACE_KEY))


def _names_namespace(term: Term) -> bool:
    return term.key == POD_NAMESPACE and term.source in (K8S, ANY)


def _names_namespace_label(term: Term) -> bool:
    return term.key.startswith(NAMESPACE_LABELS) and term.source in (K8S, ANY)
