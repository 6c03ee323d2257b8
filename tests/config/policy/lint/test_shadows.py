"""Rules that make one another pointless."""

from __future__ import annotations

import pytest

from config import codes
from config.policy.lint.run import lint
from config.policy.lint.view import View
from config.policy.resolved import DnsRule, HttpRule, KafkaRule, ServerName
from config.policy.rules import Entity, PortSpec
from tests.config.policy.builders import PODS, clusterwide, load
from tests.config.policy.lint.builders import TCP, a, document, entry, found, http, notes_about, notes_of, plain

FOO = "fromEndpoints: [{matchLabels: {id: foo}}], "
FOO_FRONT = "fromEndpoints: [{matchLabels: {id: foo, tier: front}}], "
BAR = "fromEndpoints: [{matchLabels: {id: bar}}], "
FOO_OR_BAR = "fromEndpoints: [{matchLabels: {id: foo}}, {matchLabels: {id: bar}}], "
SHADOWED = codes.SHADOWED.id


def ingress(*entries: str) -> str:
    return f"ingress: [{', '.join(entries)}]"


@pytest.mark.parametrize(
    ("shadowed", "first", "second"),
    [
        (True, http(peers=FOO), plain(peers=FOO)),
        (True, http(peers=FOO), plain()),
        (True, http(peers=FOO), "{fromEndpoints: [{matchLabels: {id: foo}}]}"),
        (True, http(peers=FOO), "{fromEntities: [all]}"),
        (True, http(peers=FOO), "{fromEntities: [cluster]}"),
        (True, http(peers=FOO_FRONT), plain(peers=FOO)),
        (True, http(peers=FOO_OR_BAR), plain(peers=BAR)),
        (True, http(peers="fromCIDR: [10.1.0.0/16], "), plain(peers="fromCIDR: [10.0.0.0/8], ")),
        (True, http(peers="fromCIDR: [10.1.0.0/16], "), plain(peers="fromEntities: [world], ")),
        (True, http(), "{toPorts: [{ports: [{port: '70', endPort: 90}]}]}"),
        # What is only allowed to some of the peers is meant.
        (False, http(), plain(peers=FOO)),
        (False, http(peers=FOO), plain(peers=FOO_FRONT)),
        (False, http(peers=FOO), plain(peers=BAR)),
        (False, http(peers=FOO), plain(peers=FOO, port="81")),
        (False, http(peers=FOO), "{toPorts: [{ports: [{port: '80', protocol: UDP}]}]}"),
        (False, http(peers=FOO), "{fromEndpoints: []}"),
        (False, http(peers="fromCIDR: [10.0.0.0/8], "), plain(peers="fromCIDR: [10.1.0.0/16], ")),
        (False, http(peers=FOO), http("method: GET", peers=FOO)),
    ],
)
def test_plain_rules_make_l7_rules_void(shadowed: bool, first: str, second: str) -> None:
    for one, other in ((first, second), (second, first)):
        notes = notes_of(a(ingress(one)), a(ingress(other), name="q"))
        assert (SHADOWED in found(notes)) is shadowed
        notes = notes_of(a(ingress(one, other)))
        assert (SHADOWED in found(notes)) is shadowed


def test_who_does_it_and_to_whom() -> None:
    (note,) = notes_of(a(ingress(http(peers=FOO_OR_BAR))), a(ingress(plain(peers=BAR)), name="q"))
    assert note.path == ("spec", "ingress", 0, "toPorts", 0)
    assert note.message.startswith("for id=bar,")
    assert "every request is allowed by default/q ingress[0] (policies.yaml:14)" in note.message


@pytest.mark.parametrize(
    ("shadowed", "subject"),
    [
        (True, "{}"),
        (True, "{matchLabels: {id: a}}"),
        (True, "{matchExpressions: [{key: id, operator: In, values: [a, b]}]}"),
        (True, "{matchExpressions: [{key: id, operator: Exists}]}"),
        (False, "{matchLabels: {id: a, role: server}}"),
        (False, "{matchLabels: {id: b}}"),
        (False, "{matchLabels: {role: server}}"),
    ],
)
def test_the_other_rule_must_be_about_the_same_pods(shadowed: bool, subject: str) -> None:
    notes = notes_of(a(ingress(http())), a(ingress(plain()), name="q", subject=subject))
    assert (SHADOWED in found(notes)) is shadowed


def test_other_namespaces_and_cluster_wide_policies() -> None:
    rule = a(ingress(http()))
    assert SHADOWED not in found(notes_of(rule, a(ingress(plain()), namespace="other")))
    everywhere = clusterwide(f"endpointSelector: {{}}\n{ingress(plain())}")
    assert SHADOWED in found(notes_of(rule, everywhere))


def test_without_default_deny_l7_rules_refuse_nothing_anyway() -> None:
    visible = a(f"{ingress(http())}\nenableDefaultDeny: {{ingress: false}}")
    assert SHADOWED not in found(notes_of(visible, a(ingress(plain()), name="q")))


@pytest.mark.parametrize(
    ("shadowed", "peers", "other"),
    [
        # `foo` and `foo of other` have different labels; only with endpoints is it known who has them.
        (True, "fromEndpoints: [{matchLabels: {id: bar}}], ", "fromEndpoints: [{matchLabels: {tier: front}}], "),
        (False, "fromEndpoints: [{matchLabels: {id: foo}}], ", "fromEndpoints: [{matchLabels: {tier: front}}], "),
    ],
)
def test_with_endpoints_it_is_exact(shadowed: bool, peers: str, other: str) -> None:
    documents = a(ingress(http(peers=peers))), a(ingress(plain(peers=other)), name="q")
    assert SHADOWED not in found(notes_of(*documents))
    assert (SHADOWED in found(notes_of(*documents, pods=PODS))) is shadowed


def test_with_endpoints_all_that_the_rule_is_about_count() -> None:
    """On `bar`, which the other rule is not about, the HTTP rules are in force."""
    rule = a(ingress(http()), subject="{matchExpressions: [{key: id, operator: In, values: [a, bar]}]}")
    assert SHADOWED not in found(notes_of(rule, a(ingress(plain()), name="q"), pods=PODS))
    both = a(ingress(plain()), name="q", subject="{matchExpressions: [{key: id, operator: NotIn, values: [foo]}]}")
    assert SHADOWED in found(notes_of(rule, both, pods=PODS))


PORT = (PortSpec((TCP,), 80, 80),)


@pytest.mark.parametrize(
    ("conflict", "one", "other"),
    [
        (True, entry(ports=PORT, l7=(HttpRule(),)), entry(ports=PORT, l7=(KafkaRule(),))),
        (True, entry(ports=PORT, l7=(HttpRule(),)), entry(ports=PORT, l7=(DnsRule(),))),
        (True, entry(ports=PORT, l7=(HttpRule(),)), entry(Entity.ALL, ports=PORT, l7=(DnsRule(),))),
        (False, entry(ports=PORT, l7=(HttpRule(),)), entry(ports=PORT, l7=(HttpRule("GET"),))),
        (False, entry(ports=PORT, l7=(HttpRule(),)), entry(ports=(PortSpec((TCP,), 81, 81),), l7=(DnsRule(),))),
        (False, entry(Entity.WORLD, ports=PORT, l7=(HttpRule(),)), entry(ports=PORT, l7=(DnsRule(),))),
        (False, entry(ports=PORT, l7=(HttpRule(),)), entry(ports=PORT)),
        (True, entry(ports=PORT, l7=(KafkaRule(),)), entry(ports=PORT, l7=(ServerName("a"),))),
    ],
)
def test_kinds_of_l7_rules_exclude_each_other(conflict: bool, one: object, other: object) -> None:
    for pair in ((one, other), (other, one)):
        notes = notes_about(document(*pair))  # type: ignore[arg-type]
        told = [note for note in notes if note.code is codes.L7_CONFLICT]
        assert len(told) == conflict
        notes = notes_about(document(pair[0]), document(pair[1], name="q"))  # type: ignore[arg-type]
        assert len([note for note in notes if note.code is codes.L7_CONFLICT]) == conflict


@pytest.mark.parametrize(
    ("denied", "allow", "deny"),
    [
        (True, plain(peers=FOO), plain(peers=FOO)),
        (True, plain(peers=FOO), "{fromEntities: [all]}"),
        (True, plain(peers=FOO_OR_BAR), f"{plain(peers=FOO)}, {plain(peers=BAR)}"),
        (True, http(peers=FOO), plain()),
        (True, "{fromCIDR: [10.1.0.0/16]}", "{fromCIDR: [10.0.0.0/8]}"),
        (False, plain(peers=FOO_OR_BAR), plain(peers=FOO)),
        (False, "{fromEndpoints: [{matchLabels: {id: foo}}]}", plain(peers=FOO)),
        (False, "{toPorts: [{ports: [{port: '70', endPort: 90}]}]}", plain()),
        (False, "{fromCIDR: [10.0.0.0/8]}", "{fromCIDR: [10.1.0.0/16]}"),
        (False, plain(), plain(peers=FOO)),
    ],
)
def test_deny_rules_leave_nothing_of_allow_rules(denied: bool, allow: str, deny: str) -> None:
    notes = notes_of(a(f"ingress: [{allow}]\ningressDeny: [{deny}]"))
    assert (codes.ALLOW_DENIED.id in found(notes)) is denied


def test_entries_that_say_the_same() -> None:
    notes = notes_of(a(ingress(plain(peers=FOO))), a(ingress(plain(peers=BAR), plain(peers=FOO)), name="q"))
    (note,) = [note for note in notes if note.code is codes.ENTRY_TWICE]
    assert note.path == ("spec", "ingress", 1)
    assert note.message == "the same as default/p ingress[0] (policies.yaml:6)"
    other = notes_of(a(ingress(plain(peers=FOO))), a(ingress(plain(peers=FOO)), name="q", subject="{}"))
    assert codes.ENTRY_TWICE.id not in found(other)


def test_specs_are_found_by_their_names() -> None:
    text = a("ingress: []").partition("spec:")[0]
    rule = f"endpointSelector: {{}}, {ingress(http(), plain())}"
    file = load(f"{text}specs:\n- {{endpointSelector: {{}}, egress: []}}\n- {{{rule}}}\n")
    paths = [note.path for note in lint(View(file.documents)) if note.code is codes.SHADOWED]
    assert paths == [("specs", 1, "ingress", 0, "toPorts", 0)]
