"""Actions on headers. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.http import HttpMatcher, faults
from config.policy.http_rules import with_secrets
from config.policy.resolved import HeaderAction, HeaderMatch, HttpRule
from parsers.facts import EditKind, HeaderEdit, HttpRequest, edited_request
from tests.config.policy.builders import http_request, load, policy

TOKEN = "tok3n-of-nobody"
RULES = """
endpointSelector: {matchLabels: {id: a}}
ingress:
- toPorts:
  - ports: [{port: "80", protocol: TCP}]
    rules:
      http:
      - path: "/allowed"
        headerMatches:
        - {name: Bearer-Token, secret: {name: token}, mismatch: REPLACE}
        - {name: header42, value: "42", mismatch: LOG}
      - path: ".*public$"
        headerMatches: [{name: User-Agent, value: CuRL, mismatch: DELETE}]
      - host: "allowedHOST"
        headerMatches:
        - {name: Header2, value: value2, mismatch: ADD}
        - {name: Header42, value: "42", mismatch: DELETE}
      - host: ".*REGEX.*"
        headerMatches: [{name: header42, value: "42", mismatch: DELETE}]
      - {method: PUT, path: "/public/opinions"}
      - path: "/members"
        headerMatches: [{name: bearer-token, secret: {name: token}}]
"""
SET_TOKEN = HeaderEdit(EditKind.SET, b"bearer-token", TOKEN.encode())
ADD_HEADER2 = HeaderEdit(EditKind.ADD, b"header2", b"value2")
REMOVE_42 = HeaderEdit(EditKind.REMOVE, b"header42")
REMOVE_AGENT = HeaderEdit(EditKind.REMOVE, b"user-agent")

Headers = tuple[tuple[str, str], ...]


def http_rules(secrets: dict[str, str]) -> tuple[HttpRule, ...]:
    file = load(policy(RULES))
    assert file.ok, file.findings
    port_rules = file.documents[0].rules[0].entries[0].port_rules
    assert port_rules is not None
    return tuple(with_secrets(rule, secrets) for rule in port_rules[0].l7 or () if isinstance(rule, HttpRule))


def matcher(*rules: HttpRule) -> HttpMatcher:
    return HttpMatcher([(rule, index + 1) for index, rule in enumerate(rules)])


@pytest.mark.parametrize(
    ("request_line", "host", "headers", "rule", "edits", "notes"),
    [
        pytest.param("GET /prefix", "h", (), None, (), (), id="H01"),
        pytest.param(
            "GET /allowed", "h", (("bearer-token", TOKEN),), 1, (), ('header "header42" is missing',), id="H02"
        ),
        pytest.param(
            "GET /allowed",
            "h",
            (("bearer-token", "wrong"),),
            1,
            (SET_TOKEN,),
            ('header "bearer-token" has another value', 'header "header42" is missing'),
            id="H03",
        ),
        pytest.param("GET /members", "h", (("bearer-token", TOKEN),), 6, (), (), id="secret"),
        pytest.param("GET /members", "h", (("bearer-token", TOKEN + "x"),), None, (), (), id="H04 other value"),
        pytest.param("GET /members", "h", (), None, (), (), id="H04 missing"),
        pytest.param("GET /maybe/public", "h", (), 2, (), ('header "user-agent" is missing',), id="H05"),
        pytest.param("GET /maybe/public", "h", (("user-agent", "CuRL"),), 2, (), (), id="kept"),
        pytest.param(
            "GET /maybe/public",
            "h",
            (("user-agent", "test"),),
            2,
            (REMOVE_AGENT,),
            ('header "user-agent" has another value',),
            id="H06",
        ),
        pytest.param("GET /maybe/private", "hostREGEXname", (), 4, (), ('header "header42" is missing',), id="H07"),
        pytest.param(
            "GET /maybe/private",
            "hostREGEXname",
            (("header42", "test"),),
            4,
            (REMOVE_42,),
            ('header "header42" has another value',),
            id="H08",
        ),
        pytest.param("GET /maybe/private", "hostREGEXname", (("header42", "42"),), 4, (), (), id="H08 kept"),
        pytest.param(
            "GET /allowed",
            "allowedHOST",
            (),
            1,
            (SET_TOKEN, ADD_HEADER2),
            (
                'header "bearer-token" is missing',
                'header "header42" is missing',
                'header "header2" is missing',
            ),
            id="H11",
        ),
        pytest.param(
            "GET /allowed",
            "allowedHOST",
            (("header42", "x"),),
            1,
            (SET_TOKEN, ADD_HEADER2, REMOVE_42),
            (
                'header "bearer-token" is missing',
                'header "header42" has another value',
                'header "header2" is missing',
            ),
            id="H12",
        ),
        pytest.param("POST /maybe/private", "h", (), None, (), (), id="H13"),
        pytest.param("PUT /public/opinions", "h", (), 5, (), (), id="H14"),
    ],
)
def test_actions(
    request_line: str,
    host: str,
    headers: Headers,
    rule: int | None,
    edits: tuple[HeaderEdit, ...],
    notes: tuple[str, ...],
) -> None:
    asked = matcher(*http_rules({"default/token": TOKEN}))
    request = http_request(request_line, host, headers)
    assert asked.acts
    assert asked.needs_headers
    assert asked.judge(request) == rule
    assert asked.edits(request) == (edits, notes)


def test_a_rule_without_its_secret_never_matches() -> None:  # H22
    asked = matcher(*http_rules({}))
    for path in ("/allowed", "/members"):
        for headers in ((), (("bearer-token", ""),), (("bearer-token", TOKEN),)):
            request = http_request(f"GET {path}", "h", headers)
            assert asked.judge(request) is None
            assert asked.edits(request) == ((), ())
    said = [fault.said for fault in faults(http_rules({})[-1], http_request("GET /members"))]
    assert said == ['header "bearer-token": the secret default/token is not known']


def test_without_the_secret_the_value_of_the_file_counts() -> None:
    rule = HttpRule(header_matches=(HeaderMatch("x", HeaderAction.FAIL, "fallback", "n/s", True),))
    assert matcher(rule).judge(http_request("GET /", headers=(("x", "fallback"),))) == 1
    known = matcher(with_secrets(rule, {"n/s": "s"}))
    assert known.judge(http_request("GET /", headers=(("x", "fallback"),))) is None
    assert known.judge(http_request("GET /", headers=(("x", "s"),))) == 1


@pytest.mark.parametrize(
    ("action", "value", "there", "edit"),
    [
        (HeaderAction.ADD, "v", None, HeaderEdit(EditKind.ADD, b"x", b"v")),
        (HeaderAction.ADD, "v", "w", HeaderEdit(EditKind.ADD, b"x", b"v")),
        (HeaderAction.ADD, "v", "v", None),
        (HeaderAction.ADD, "", None, HeaderEdit(EditKind.ADD, b"x", b"")),
        (HeaderAction.ADD, "", "", None),
        (HeaderAction.REPLACE, "v", None, HeaderEdit(EditKind.SET, b"x", b"v")),
        (HeaderAction.REPLACE, "v", "w", HeaderEdit(EditKind.SET, b"x", b"v")),
        (HeaderAction.REPLACE, "v", "v", None),
        (HeaderAction.REPLACE, "", "w", HeaderEdit(EditKind.SET, b"x", b"")),
        (HeaderAction.DELETE, "v", None, None),
        (HeaderAction.DELETE, "v", "w", HeaderEdit(EditKind.REMOVE, b"x")),
        (HeaderAction.DELETE, "v", "", HeaderEdit(EditKind.REMOVE, b"x")),
        (HeaderAction.DELETE, "v", "v", None),
        (HeaderAction.DELETE, "", "w", None),
        (HeaderAction.LOG, "v", None, None),
        (HeaderAction.LOG, "v", "w", None),
        (HeaderAction.LOG, "v", "v", None),
    ],
)
def test_each_action(action: HeaderAction, value: str, there: str | None, edit: HeaderEdit | None) -> None:
    asked = matcher(HttpRule(header_matches=(HeaderMatch("x", action, value),)))
    request = http_request("GET /", headers=() if there is None else (("x", there),))
    assert asked.judge(request) == 1
    edits, notes = asked.edits(request)
    assert edits == (() if edit is None else (edit,))
    fits = there == value
    word = "is missing" if there is None else "has another value"
    assert notes == (() if fits else (f'header "x" {word}',))


def test_values_are_joined_before_they_are_compared() -> None:
    asked = matcher(HttpRule(header_matches=(HeaderMatch("x", HeaderAction.REPLACE, "a,b"),)))
    assert asked.edits(http_request("GET /", headers=(("x", "a"), ("y", "c"), ("x", "b")))) == ((), ())


def test_rules_that_do_the_same_do_it_once_and_others_in_order() -> None:
    add, other = HeaderMatch("x", HeaderAction.ADD, "v"), HeaderMatch("x", HeaderAction.REPLACE, "w")
    rules = [HttpRule(path=path, header_matches=(match,)) for path, match in (("/a", add), ("", add), ("/.*", other))]
    edits, _ = matcher(*rules).edits(http_request("GET /a"))
    assert edits == (HeaderEdit(EditKind.ADD, b"x", b"v"), HeaderEdit(EditKind.SET, b"x", b"w"))


def test_rules_that_only_refuse_act_on_nothing() -> None:
    secret = HeaderMatch("x", HeaderAction.FAIL, "v", "n/s")
    assert not matcher(HttpRule(headers=(("x", "v"),)), HttpRule(header_matches=(secret,))).acts


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    asked = matcher(*http_rules({"default/token": TOKEN}))
    assert asked.judge(http_request("GET /members", headers=(("bearer-token", "wrong"),))) is None
    assert compared == [(b"wrong", TOKEN.encode())]


# Against a reading of the items one by one


_MATCHES = st.lists(
    st.builds(
        HeaderMatch,
        st.sampled_from(["x", "y"]),
        st.sampled_from(HeaderAction),
        st.sampled_from(["", "1", "s3cret"]),
        st.sampled_from(["", "n/s"]),
        st.booleans(),
    ),
    max_size=3,
).map(tuple)
_RULES = st.lists(
    st.builds(HttpRule, path=st.sampled_from(["", "/a"]), header_matches=_MATCHES), min_size=1, max_size=4
)
_REQUESTS = st.builds(
    HttpRequest,
    st.just(b"GET"),
    st.sampled_from([b"/a", b"/b"]),
    st.just(b"h"),
    st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2", b"", b"s3cret"])), max_size=3).map(
        tuple
    ),
)


def naive(rule: HttpRule, request: HttpRequest) -> bool:
    if rule.path and rule.path.encode() != request.path:
        return False
    for match in rule.header_matches:
        values = [value for name, value in request.headers if name == match.name.encode()]
        fits = bool(values) and b",".join(values) == match.value.encode()
        if not match.is_known or (match.action is HeaderAction.FAIL and not fits):
            return False
    return True


@settings(max_examples=300)
@given(_RULES, _REQUESTS)
def test_actions_never_refuse_and_values_are_never_told(rules: list[HttpRule], request: HttpRequest) -> None:
    asked = matcher(*rules)
    permitting = [rule for rule in rules if naive(rule, request)]
    assert asked.judge(request) == next((n + 1 for n, rule in enumerate(rules) if rule in permitting), None)
    edits, notes = asked.edits(request)
    if not permitting:
        assert (edits, notes) == ((), ())
    for rule in rules:
        assert bool(faults(rule, request)) is not naive(rule, request)
    without = [replace(rule, header_matches=()) for rule in permitting]
    assert matcher(*without).edits(request) == ((), ())
    assert "s3cret" not in repr((rules, edits, notes)) + asked.explain(request, {})


@settings(max_examples=300)
@given(st.builds(HttpRule, header_matches=_MATCHES), _REQUESTS)
def test_headers_that_one_item_replaces_are_as_it_wants_them(rule: HttpRule, request: HttpRequest) -> None:
    edits, _ = matcher(rule).edits(request)
    after = dict.fromkeys(name for name, _ in edited_request(request, edits).headers)
    for name in (b"x", b"y"):
        items = [match for match in rule.header_matches if match.name.encode() == name]
        if len(items) == 1 and naive(rule, request) and items[0].action is HeaderAction.REPLACE:
            assert name in after
            done = matcher(rule).edits(edited_request(request, edits))[0]
            assert all(edit.name != name for edit in done)
