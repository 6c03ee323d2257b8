"""Rows of the kernel's policy map. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

import pytest

from config.policy.entries import EntryKey, EntryValue, EntryVerdict, policy_entries
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    EndpointPolicy,
    HttpRule,
    Origin,
    PortRange,
    Protocol,
    Rule,
)

TCP = int(Protocol.TCP)
OFF = DirectionPolicy(enforced=False)


def rule(
    number: int,
    *ports: tuple[int, int],
    identities: frozenset[int] | None = None,
    deny: bool = False,
    http: bool = False,
    audit: bool = False,
) -> Rule:
    origin = Origin(number, "CiliumNetworkPolicy", "default", "p", f"ingress[{number}]")
    chosen = tuple(PortRange(TCP, first, last) for first, last in ports) or None
    return Rule(origin, identities, chosen, deny, (HttpRule(path="/"),) if http else None, audit)


def rows(*rules: Rule) -> dict[tuple[int, int, int, int], tuple[str, int]]:
    """(identity, protocol, port, bits) → (verdict, rule id)."""
    found = policy_entries(EndpointPolicy(DirectionPolicy(True, rules), OFF))
    assert all(key.direction is Direction.INGRESS for key in found)
    return {
        (key.identity, key.protocol, key.port, key.prefix_bits): (value.verdict.name, value.rule_id)
        for key, value in found.items()
    }


@pytest.mark.parametrize(
    ("first", "last", "prefixes"),
    [
        pytest.param(0, 1023, [(0, 6)], id="P03"),
        pytest.param(5, 10, [(5, 16), (6, 15), (8, 15), (10, 16)], id="P06"),
        pytest.param(16, 391, [(16, 12), (32, 11), (64, 10), (128, 9), (256, 9), (384, 13)], id="P07"),
        pytest.param(0, 65535, [(0, 0)], id="P08"),
        pytest.param(256, 256, [(256, 16)], id="P10"),
        pytest.param(65535, 65535, [(65535, 16)], id="P10 last"),
    ],
)
def test_port_prefixes(first: int, last: int, prefixes: list[tuple[int, int]]) -> None:
    assert [(key[2], key[3]) for key in rows(rule(1, (first, last)))] == prefixes


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        pytest.param(1, 1023, 10, id="P02"),
        pytest.param(1024, 65535, 6, id="P04"),
        pytest.param(10000, 20000, 11, id="P05"),
        pytest.param(1, 65534, 30, id="worst"),
    ],
)
def test_number_of_port_prefixes(first: int, last: int, count: int) -> None:
    assert len(rows(rule(1, (first, last)))) == count


def test_ends_of_prefixes() -> None:  # P04, P05
    assert list(rows(rule(1, (1024, 65535))))[-1][2:] == (32768, 1)
    found = list(rows(rule(1, (10000, 20000))))
    assert (found[0][2:], found[-1][2:]) == ((10000, 12), (20000, 16))


def test_a_rule_without_ports_is_one_row_of_any_protocol() -> None:
    assert rows(rule(1)) == {(0, 0, 0, 0): ("ALLOW", 1)}


def test_stronger_verdicts_are_inherited_by_longer_prefixes() -> None:
    found = rows(rule(1, (80, 80), http=True), rule(2, (80, 95), deny=True), rule(3))
    assert found == {
        (0, TCP, 80, 16): ("DENY", 2),
        (0, TCP, 80, 12): ("DENY", 2),
        (0, 0, 0, 0): ("ALLOW", 3),
    }


@pytest.mark.parametrize("bits", range(16))
def test_prefixes_of_every_length_hand_down(bits: int) -> None:
    size = 1 << (16 - bits)
    first = 8080 // size * size
    found = rows(rule(1, (8080, 8080)), rule(2, (first, first + size - 1), deny=True))
    assert found[0, TCP, 8080, 16] == ("DENY", 2)


def test_redirect_is_stronger_than_allow() -> None:
    assert rows(rule(1, (80, 80)), rule(2, (0, 65535), http=True)) == {
        (0, TCP, 80, 16): ("REDIRECT", 2),
        (0, TCP, 0, 0): ("REDIRECT", 2),
    }


def audited(*rules: Rule) -> dict[tuple[int, int], tuple[str, int, int]]:
    """(identity, port) → (verdict, rule id, id of the deny rule that is tried out)."""
    found = policy_entries(EndpointPolicy(DirectionPolicy(True, rules), OFF))
    return {(k.identity, k.port): (v.verdict.name, v.rule_id, v.audited) for k, v in found.items()}


def test_a_deny_rule_that_is_tried_out_brings_no_verdict_and_is_named() -> None:
    assert audited(rule(4, (80, 80), deny=True, audit=True)) == {(0, 80): ("NONE", 0, 4)}
    assert audited(rule(4, (80, 80), deny=True, audit=True), rule(5, (80, 80), http=True), rule(6)) == {
        (0, 80): ("REDIRECT", 5, 4),
        (0, 0): ("ALLOW", 6, 0),
    }


def test_a_deny_rule_that_is_tried_out_is_inherited_by_longer_prefixes() -> None:
    wide = rule(4, deny=True, audit=True)
    assert audited(wide, rule(5, (80, 80)), rule(6, (81, 81), deny=True)) == {
        (0, 0): ("NONE", 0, 4),
        (0, 80): ("ALLOW", 5, 4),
        (0, 81): ("DENY", 6, 4),
    }


def test_of_deny_rules_that_are_tried_out_the_lower_id_is_named() -> None:
    rules = [rule(number, (80, 80), deny=True, audit=True) for number in (8, 3, 5)]
    assert audited(*rules) == {(0, 80): ("NONE", 0, 3)}


def test_an_allow_rule_of_a_policy_that_is_tried_out_allows() -> None:
    assert audited(rule(4, (80, 80), audit=True)) == {(0, 80): ("ALLOW", 4, 0)}


def test_identities_do_not_inherit_from_any() -> None:
    """The kernel looks both up and compares."""
    found = rows(rule(1, deny=True), rule(2, (80, 80), identities=frozenset((300,))))
    assert found[300, TCP, 80, 16] == ("ALLOW", 2)


def test_of_equal_rules_the_lower_id_is_named() -> None:
    assert rows(rule(7, (80, 80)), rule(3, (80, 80)))[0, TCP, 80, 16] == ("ALLOW", 3)
    assert rows(rule(7, (80, 80)), rule(3))[0, TCP, 80, 16] == ("ALLOW", 3)


def test_directions_that_are_not_enforced_have_no_rows() -> None:  # P13, P14
    section = DirectionPolicy(True, (rule(1),))
    assert policy_entries(EndpointPolicy(OFF, section)) == {
        EntryKey(0, Direction.EGRESS, 0, 0, 0): EntryValue(EntryVerdict.ALLOW, 1)
    }
    assert policy_entries(EndpointPolicy(OFF, OFF)) == {}
    assert policy_entries(EndpointPolicy(DirectionPolicy(True), OFF)) == {}
