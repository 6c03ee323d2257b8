"""DNS names against rules; the ids are those of the reference's rows."""

from __future__ import annotations

import pytest

from config.policy.dns import DnsMatcher, dns_faults
from config.policy.dns_names import pattern_regex, selects
from config.policy.resolved import DnsRule
from parsers.facts import DnsQuery


def matcher(*rules: DnsRule) -> DnsMatcher:
    return DnsMatcher([(rule, number) for number, rule in enumerate(rules, 1)])


@pytest.mark.parametrize(
    ("pattern", "regex"),
    [
        pytest.param("cilium.io.", "^cilium[.]io[.]$", id="D04"),
        pytest.param("*.cilium.io.", "^[-a-zA-Z0-9_]*[.]cilium[.]io[.]$", id="D05"),
        pytest.param("**.cilium.io.", "^([-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+){0,})[.]cilium[.]io[.]$", id="D07"),
        pytest.param("***.cilium.io.", "^([-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+){0,})[.]cilium[.]io[.]$", id="D07 three"),
        pytest.param(".", "^[.]$", id="D09"),
        pytest.param("*", "(^([-a-zA-Z0-9_]+[.])+$)|(^[.]$)", id="D18 one"),
        pytest.param("***.", "(^([-a-zA-Z0-9_]+[.])+$)|(^[.]$)", id="D18 three"),
        pytest.param("*.com", "^[-a-zA-Z0-9_]*[.]com[.]$", id="D18 suffix"),
    ],
)
def test_patterns_as_expressions(pattern: str, regex: str) -> None:
    assert pattern_regex(pattern) == regex


@pytest.mark.parametrize(
    ("pattern", "accepted", "rejected"),
    [
        pytest.param("cilium.io.", ["cilium.io"], ["", "anysub.cilium.io"], id="D10"),
        pytest.param(
            "*.ci*.io.", ["anysub.cilium.io", "anysub.ci.io", "anysub.ciliumandmore.io"], ["cilium.io"], id="D12"
        ),
        pytest.param("*.ci**.io.", ["anysub.cilium.io", "anysub.ci.io"], ["cilium.io"], id="D12 two stars"),
        pytest.param("*", ["", "io", "_foobar._tcp.cilium.io", "a.b.c.d.e"], [".io"], id="D13"),
        pytest.param("**.cilium.io.", ["a.cilium.io", "a.b.cilium.io", "a.b.c.cilium.io"], ["cilium.io"], id="D15"),
        pytest.param(
            "**.*.cilium.io.", ["_foobar._tcp.cilium.io", "_foo._bar._tcp.cilium.io"], ["foo.cilium.io"], id="D16"
        ),
        pytest.param("**.ci*.io.", ["foo.bar.cilium.io", "anysub.ci.io"], ["cilium.io", "test.calium.io"], id="D17"),
        pytest.param("*cilium.io", ["cilium.io", "subcilium.io"], ["www.cilium.io"], id="no dot before"),
        pytest.param("test.**.x", ["test.a.x"], ["test.a.b.x"], id="stars inside are one label"),
        pytest.param("cilium.io", ["cilium.io"], ["ciliumXio"], id="Q24"),
    ],
)
def test_patterns_on_names(pattern: str, accepted: list[str], rejected: list[str]) -> None:
    asked = matcher(DnsRule(pattern=pattern))
    for name in accepted:
        assert selects("", pattern, name), name
        assert asked.judge(DnsQuery(f"{name}.")) == 1, name
    for name in rejected:
        assert not selects("", pattern, name), name
        assert asked.judge(DnsQuery(f"{name}.")) is None, name


def test_a_list_of_rules() -> None:
    """Q30."""
    asked = matcher(
        DnsRule("example.name"), DnsRule("demo.io"), DnsRule(pattern="*pattern.com"), DnsRule(pattern="*.*.*middle.*")
    )
    assert asked.judge(DnsQuery("testpattern.com.")) == 3
    assert asked.judge(DnsQuery("pattern.com.")) == 3
    assert asked.judge(DnsQuery("a.b.cmiddle.io.")) == 4
    assert asked.judge(DnsQuery("example.name")) == 1
    for name in ("test.ppattern.com.", "b.cmiddle.io.", "eexample.com."):
        assert asked.judge(DnsQuery(name)) is None


def test_case_and_the_final_dot_do_not_matter() -> None:
    """Q32."""
    asked = matcher(DnsRule("a.example"), DnsRule(pattern="*.b.example"))
    assert asked.judge(DnsQuery("A.EXAMPLE.")) == asked.judge(DnsQuery("a.example")) == 1
    assert asked.judge(DnsQuery("x.B.Example")) == 2


def test_either_of_name_and_pattern() -> None:
    rule = DnsRule("a.example", "*.b.example")
    assert matcher(rule).judge(DnsQuery("a.example")) == 1
    assert matcher(rule).judge(DnsQuery("x.b.example")) == 1
    assert matcher(rule).judge(DnsQuery("c.example")) is None


def test_an_empty_rule_is_the_root() -> None:
    assert matcher(DnsRule()).judge(DnsQuery(".")) == 1
    assert matcher(DnsRule()).judge(DnsQuery("a.")) is None


def test_types_of_queries() -> None:
    asked = matcher(DnsRule("a.example", query_types=("A", "AAAA")), DnsRule(pattern="*.example", query_types=("TXT",)))
    assert asked.judge(DnsQuery("a.example", "AAAA")) == 1
    assert asked.judge(DnsQuery("a.example", "TXT")) == 2
    assert asked.judge(DnsQuery("a.example", "MX")) is None


@pytest.mark.parametrize(
    ("rule", "query", "matchers"),
    [
        (DnsRule("a.example"), DnsQuery("a.example"), []),
        (DnsRule("a.example"), DnsQuery("b.example"), ["dns.name"]),
        (DnsRule("a.example", query_types=("A",)), DnsQuery("a.example", "MX"), ["dns.type"]),
        (DnsRule(pattern="*.x", query_types=("A",)), DnsQuery("a.y", "MX"), ["dns.name", "dns.type"]),
    ],
)
def test_faults_agree_with_the_matcher(rule: DnsRule, query: DnsQuery, matchers: list[str]) -> None:
    assert [fault.matcher for fault in dns_faults(rule, query)] == matchers
    assert (matcher(rule).judge(query) is None) is bool(matchers)


def test_hostile_names_are_only_refused() -> None:
    asked = matcher(DnsRule(pattern="**.a*b*c*d.example"))
    assert asked.judge(DnsQuery("a" * 100_000)) is None
    assert asked.judge(DnsQuery("\x00\udcff.example")) is None
    assert matcher(DnsRule("kelvin.example")).judge(DnsQuery("\u212aelvin.example")) is None
    assert matcher(DnsRule("a.example")).judge(DnsQuery(" a.example")) is None
