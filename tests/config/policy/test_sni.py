"""Server names against patterns; the ids are those of the reference's rows."""

from __future__ import annotations

import pytest

from config.policy.resolved import ServerName
from config.policy.sni import ServerNameMatcher, server_name_fault, sni_faults
from parsers.facts import ClientHello


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        pytest.param(
            "example.com", ["example.com", "EXaMpLE.COM"], ["www.example.com", "notexample.com", ""], id="S01"
        ),
        pytest.param("sub.*.com", ["sub.foo.com"], ["sub.com", "test.sub.example.com"], id="S04"),
        pytest.param(
            "sub.example-*.com",
            ["sub.example-foo-bar.com"],
            ["sub.example.com", "sub.example-foo.bar.com"],
            id="S05",
        ),
        pytest.param("sub.*.*.example.com", ["sub.foo.bar.example.com"], ["sub.foo.example.com"], id="S06"),
        pytest.param(
            "sub.**.example.com",
            ["sub.foo.example.com", "sub.foo.bar-007.example.com"],
            ["sub.example.com", "sub..example.com", "foo.sub.example.com"],
            id="S07",
        ),
        pytest.param(
            "**.sub.example.com", ["foo.sub.example.com", "foo.bar.sub.example.com"], ["sub.example.com"], id="S08"
        ),
        pytest.param("**.sub.*.ex*e.com", ["test.foo.sub.bar.exe.com"], ["test.sub.example.com"], id="S09"),
        pytest.param("*", ["a", "a.b.c"], ["", "a..b"], id="any"),
        pytest.param("**", ["a", "a.b.c"], ["", "."], id="any, two stars"),
    ],
)
def test_patterns(pattern: str, accepted: list[str], refused: list[str]) -> None:
    assert server_name_fault(pattern) is None
    rule = ServerName(pattern)
    for name in (*accepted, *refused):
        wanted = 7 if name in accepted else None
        assert ServerNameMatcher([(rule, 7)]).judge(ClientHello(name)) == wanted, name
        assert bool(sni_faults(rule, ClientHello(name))) is (wanted is None), name


def test_the_first_rule_that_permits() -> None:
    asked = ServerNameMatcher([(ServerName("a.b"), 1), (ServerName("*.b"), 2), (ServerName("a.*"), 3)])
    assert [asked.judge(ClientHello(name)) for name in ("a.b", "c.b", "a.c", "d.e")] == [1, 2, 3, None]
    assert "names no server" in asked.explain(ClientHello(""), {})
