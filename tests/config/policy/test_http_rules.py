"""`rules.http` → what is enforced: headers, the actions on them, and secrets."""

from __future__ import annotations

import pytest

from config import codes
from config.findings import Code, Finding
from config.policy.http_rules import MAX_VALUE, read_http_rules, refers_to_secret, with_secrets
from config.policy.model import HttpFields
from config.policy.resolved import HeaderAction, HeaderMatch, HttpRule
from config.policy.scope import Scope
from config.yaml_values import Place

SECRET = "5e*cret-value"


def read(*matches: dict[str, object], namespace: str = "shop") -> tuple[HttpRule, list[Finding]]:
    scope = Scope("p.yaml", Place(1, 1), "CiliumNetworkPolicy", namespace)
    fields = HttpFields.model_validate({"path": "/x", "headerMatches": list(matches)})
    (rule,) = read_http_rules([fields], scope, ("http",))
    return rule, scope.findings


@pytest.mark.parametrize(
    ("match", "headers"),
    [
        ({"name": "X-Role"}, (("x-role", None),)),
        ({"name": "X-Role", "value": ""}, (("x-role", None),)),
        ({"name": "X-Role", "value": "a, B"}, (("x-role", "a, B"),)),
        ({"name": "X-Role", "value": "é"}, (("x-role", "é"),)),
        ({"name": "Host", "value": "a.example"}, (("host", "a.example"),)),
    ],
)
def test_what_only_refuses_is_a_plain_header_rule(match: dict[str, object], headers: tuple[object, ...]) -> None:
    assert read(match) == (HttpRule(path="/x", headers=headers), [])  # type: ignore[arg-type]


def test_mismatch_fail_is_the_same_and_worth_a_warning() -> None:
    rule, findings = read({"name": "a", "value": "b", "mismatch": "FAIL"})
    assert rule.headers == (("a", "b"),)
    assert [(finding.code, finding.is_error) for finding in findings] == [(codes.MISMATCH_FAIL.id, False)]


@pytest.mark.parametrize("action", ["LOG", "ADD", "DELETE", "REPLACE"])
@pytest.mark.parametrize("value", ["b", ""])
def test_actions(action: str, value: str) -> None:
    rule, findings = read({"name": "A", "value": value, "mismatch": action})
    assert findings == []
    assert rule == HttpRule(path="/x", header_matches=(HeaderMatch("a", HeaderAction(action), value),))
    assert not refers_to_secret(rule)


@pytest.mark.parametrize(
    ("given", "secret", "value", "is_known"),
    [
        ({"secret": {"name": "s"}}, "shop/s", "", False),
        ({"secret": {"name": "s", "namespace": "vault"}}, "vault/s", "", False),
        ({"secret": {"name": "s"}, "value": "v"}, "shop/s", "v", True),
    ],
)
def test_secrets(given: dict[str, object], secret: str, value: str, is_known: bool) -> None:
    rule, findings = read({"name": "a", **given})
    assert findings == []
    assert rule.header_matches == (HeaderMatch("a", HeaderAction.FAIL, value, secret, is_known),)
    assert refers_to_secret(rule)
    assert with_secrets(rule, {"else/s": SECRET}) == rule
    known = with_secrets(rule, {secret: SECRET})
    assert known.header_matches == (HeaderMatch("a", HeaderAction.FAIL, SECRET, secret, True),)
    assert SECRET not in repr(known)


@pytest.mark.parametrize(
    ("match", "code", "path"),
    [
        ({"name": "a", "value": "b\r\nc: d"}, codes.HEADER_VALUE, "http[0].headerMatches[0].value"),
        ({"name": "a", "value": "b\0", "mismatch": "ADD"}, codes.HEADER_VALUE, "http[0].headerMatches[0].value"),
        ({"name": "a", "value": "b\n"}, codes.HEADER_VALUE, "http[0].headerMatches[0].value"),
        ({"name": "a", "value": " b"}, codes.HEADER_VALUE, "http[0].headerMatches[0].value"),
        ({"name": "a", "value": "b\t"}, codes.HEADER_VALUE, "http[0].headerMatches[0].value"),
        ({"name": "a", "value": "b" * (MAX_VALUE + 1)}, codes.HEADER_VALUE, "http[0].headerMatches[0].value"),
        ({"name": ""}, codes.HEADER_BAD, "http[0].headerMatches[0]"),
        ({"name": "a\n"}, codes.HEADER_BAD, "http[0].headerMatches[0]"),
        ({"name": ":path", "mismatch": "LOG"}, codes.HEADER_BAD, "http[0].headerMatches[0]"),
        ({"name": "é"}, codes.HEADER_BAD, "http[0].headerMatches[0]"),
        ({"name": "a", "mismatch": "add"}, codes.SCHEMA_VALUE, "http[0].headerMatches[0].mismatch"),
        *(
            ({"name": name, "value": "b", "mismatch": action}, codes.HEADER_UNTOUCHABLE, "http[0].headerMatches[0]")
            for name, action in (
                ("Host", "REPLACE"),
                ("content-length", "ADD"),
                ("Content_Length", "ADD"),
                ("Transfer-Encoding", "DELETE"),
                ("connection", "ADD"),
                ("TE", "ADD"),
                ("upgrade", "DELETE"),
                ("trailer", "ADD"),
                ("expect", "REPLACE"),
                ("X-Original-URL", "ADD"),
            )
        ),
    ],
)
def test_refused(match: dict[str, object], code: Code, path: str) -> None:
    _, findings = read(match)
    assert [(finding.code, finding.path) for finding in findings if finding.is_error] == [(code.id, path)]


@pytest.mark.parametrize("action", ["", "LOG"])
def test_what_changes_nothing_may_be_about_any_header(action: str) -> None:
    assert read({"name": "Host", "value": "b", "mismatch": action})[1] == []


def test_a_cluster_wide_policy_has_no_namespace_for_secrets() -> None:
    _, findings = read({"name": "a", "secret": {"name": "s"}}, namespace="")
    assert [finding.code for finding in findings] == [codes.SECRET_NAMESPACE.id]
    assert read({"name": "a", "secret": {"name": "s", "namespace": "n"}}, namespace="")[1] == []
