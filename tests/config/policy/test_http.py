"""HTTP rules against requests. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.http import MAX_SET_PROGRAM, HttpMatcher
from config.policy.patterns import compiled, encode
from config.policy.resolved import HttpRule, Origin
from parsers.facts import HttpRequest
from tests.config.policy.builders import http_request, load, policy, world

RULES = """
endpointSelector: {matchLabels: {id: a}}
ingress:
- fromEndpoints: [{matchLabels: {id: foo}}]
  toPorts:
  - ports: [{port: "80", protocol: TCP}]
    rules:
      http:
      - {path: "/allowed", headers: [header42]}
      - {path: ".*public$"}
      - {host: "allowedHOST", headerMatches: [{name: Header2, value: "a, b"}]}
      - {host: ".*REGEX.*", headers: ["Header42: 42"]}
      - {method: PUT, path: "/public/opinions"}
- fromEndpoints: [{matchLabels: {id: bar}}]
  toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /only-2-allowed}]}}]
"""


def matcher(*rules: HttpRule) -> HttpMatcher:
    return HttpMatcher([(rule, index + 1) for index, rule in enumerate(rules)])


def translated() -> HttpMatcher:
    file = load(policy(RULES))
    assert file.ok, file.findings
    port_rules = file.documents[0].rules[0].entries[0].port_rules
    assert port_rules is not None
    return matcher(*(rule for rule in port_rules[0].l7 or () if isinstance(rule, HttpRule)))


@pytest.mark.parametrize(
    ("request_line", "host", "headers", "rule"),
    [
        pytest.param("GET /allowed", "h", (("header42", "x"),), 1, id="presence"),
        pytest.param("GET /allowed", "h", (), None, id="H04 header missing"),
        pytest.param("GET /maybe/public", "h", (), 2, id="H05"),
        pytest.param("GET /maybe/private", "h", (), None, id="H13"),
        pytest.param("GET /x", "allowedHOST", (("header2", "a, b"),), 3, id="value"),
        pytest.param("GET /x", "allowedHOST", (("header2", "a"), ("header2", " b")), 3, id="joined"),
        pytest.param("GET /x", "allowedHOST", (("header2", "a"),), None, id="other value"),
        pytest.param("GET /x", "allowedHOST", (("header2", "A, b"),), None, id="values have case"),
        pytest.param("GET /x", "allowedhost", (("header2", "a, b"),), None, id="hosts have case"),
        pytest.param("GET /x", "allowedHOST:80", (("header2", "a, b"),), None, id="the port belongs to the host"),
        pytest.param("GET /x", "hostREGEXname", (("header42", "42"),), 4, id="H07"),
        pytest.param("GET /x", "hostREGEXname", (("header42", "43"),), None, id="H08"),
        pytest.param("PUT /public/opinions", "h", (), 5, id="H14"),
        pytest.param("GET /public/opinions", "h", (), None, id="method"),
        pytest.param("GET /only-2-allowed", "h", (), None, id="H15"),
        pytest.param("GET /prefix/allowed", "h", (("header42", "x"),), None, id="H01 full match"),
        pytest.param("GET /allowed?x=1", "h", (("header42", "x"),), None, id="the query belongs to the path"),
    ],
)
def test_rules(request_line: str, host: str, headers: tuple[tuple[str, str], ...], rule: int | None) -> None:
    assert translated().judge(http_request(request_line, host, headers)) == rule


def test_peers_have_their_own_lists() -> None:
    asked = world(policy(RULES))
    assert asked.http("a", "bar", "80/tcp", "GET /only-2-allowed")
    assert not asked.http("a", "bar", "80/tcp", "GET /maybe/public")


def ingress(*port_rules: str) -> str:
    return "endpointSelector: {matchLabels: {id: a}}\ningress:\n- toPorts:\n" + "\n".join(port_rules)


def port_rule(first: int, last: int, http: str) -> str:
    return f"  - {{ports: [{{port: '{first}', endPort: {last}, protocol: TCP}}], rules: {{http: [{http}]}}}}"


@pytest.mark.parametrize(
    ("rules", "port", "request_line", "permitted"),
    [
        ([(80, 0, "{path: /allowed}"), (80, 0, "{method: GET}")], 80, "PUSH /allowed", True),  # G07
        ([(80, 0, "{path: /allowed}"), (80, 0, "{method: GET}")], 80, "GET /also", True),
        ([(80, 0, "{path: /allowed}"), (80, 0, "{method: GET}")], 80, "PUSH /other", False),
        ([(70, 90, "{path: /allowed}"), (80, 0, "{method: GET}")], 80, "GET /x", True),  # G08
        ([(70, 90, "{path: /allowed}"), (80, 0, "{method: GET}")], 70, "GET /x", False),
        ([(70, 90, "{path: /allowed}"), (80, 0, "{method: GET}")], 90, "GET /x", False),
        ([(70, 90, "{path: /allowed}"), (80, 8080, "{method: GET}")], 90, "GET /x", True),  # G09
        ([(70, 90, "{path: /allowed}"), (80, 8080, "{method: GET}")], 8080, "GET /x", True),
        ([(70, 90, "{path: /allowed}"), (80, 8080, "{method: GET}")], 70, "GET /x", False),
        ([(70, 90, "{path: /allowed}"), (80, 8080, "{method: GET}")], 70, "PUSH /allowed", True),
        ([(80, 0, "{path: '.*public$'}")], 80, "GET /public", True),  # G03
        ([(80, 0, "{path: '.*public$'}")], 80, "GET /publicz", False),
    ],
)
def test_port_rules(rules: list[tuple[int, int, str]], port: int, request_line: str, permitted: bool) -> None:
    asked = world(policy(ingress(*(port_rule(*rule) for rule in rules))))
    assert asked.http("a", "foo", f"{port}/tcp", request_line) is permitted


def test_a_deny_range_beats_http() -> None:  # G04
    text = (
        ingress(port_rule(80, 0, "{path: /allowed}"))
        + "\ningressDeny: [{toPorts: [{ports: [{port: '80', endPort: 10000}]}]}]"
    )
    assert world(policy(text)).into("a", "foo", "80/tcp") == "deny"


def test_needs_headers() -> None:
    assert matcher(HttpRule(path="/"), HttpRule(headers=(("x", None),))).needs_headers
    assert not matcher(HttpRule(path="/")).needs_headers


def test_a_rule_that_wants_two_values_at_once_never_matches() -> None:
    both = matcher(HttpRule(headers=(("x", "1"), ("x", "2"))))
    assert both.judge(http_request("GET /", headers=(("x", "1"),))) is None
    assert both.judge(http_request("GET /", headers=(("x", "1"), ("x", "2")))) is None


def test_no_rules_permit_nothing() -> None:
    assert matcher().judge(http_request("GET /")) is None
    assert matcher().explain(http_request("GET /"), {}) == "there is no HTTP rule"


def test_the_first_rule_that_permits_is_named() -> None:
    asked = matcher(HttpRule(path="/x"), HttpRule(path="/.*"), HttpRule(path="/a/?.*"), HttpRule(path="/a"))
    assert asked.judge(http_request("GET /a")) == 2


def test_more_patterns_than_one_set_can_hold() -> None:
    heavy = [HttpRule(path=f"/{number}/.{{200}}x?") for number in range(200)]
    asked = matcher(*heavy)
    assert len(asked._paths._sets) > 1
    assert asked.judge(http_request("GET /199/" + "y" * 200)) == 200
    assert asked.judge(http_request("GET /200/" + "y" * 200)) is None


def test_one_pattern_may_be_larger_than_its_share() -> None:
    assert MAX_SET_PROGRAM > 1000
    assert matcher(HttpRule(path="/.{300}")).judge(http_request("GET /" + "y" * 300)) == 1


ORIGIN = Origin(1, "CiliumNetworkPolicy", "web", "frontend-http", "ingress[0]", "policies/a.yaml", 12)


@pytest.mark.parametrize(
    ("rule", "request_", "said"),
    [
        (HttpRule(path="/public"), http_request("GET /x"), 'path "/x" does not match "/public"'),
        (HttpRule("GET", "/x"), http_request("PUT /x"), 'method "PUT" does not match "GET"'),
        (HttpRule(host="a"), http_request("GET /", "b:80"), 'host "b:80" does not match "a"'),
        (HttpRule(headers=(("x", None),)), http_request("GET /"), 'header "x" is missing'),
        (
            HttpRule(headers=(("authorization", "s"),)),
            http_request("GET /", headers=(("authorization", "secret"),)),
            'header "authorization" has another value',
        ),
    ],
)
def test_explanations(rule: HttpRule, request_: HttpRequest, said: str) -> None:
    text = HttpMatcher([(rule, 1)]).explain(request_, {1: ORIGIN})
    assert text == f"{said} (frontend-http ingress[0], policies/a.yaml:12)"


def test_explanations_begin_with_what_came_closest_and_end() -> None:
    rules = [HttpRule("PUT", f"/{number}") for number in range(9)] + [HttpRule("GET", "/close")]
    text = matcher(*rules).explain(http_request("GET /x"), {})
    assert text.startswith('path "/x" does not match "/close" (rule 10); method "GET" does not match "PUT" and path')
    assert text.endswith("; and 7 more rules")


# Against a reading of the rules one by one


_PATHS = st.sampled_from(["", "/a", "/a/.*", "/a.c", "/a/?.*", "/[ab]+", "/a|/b", "(/a)?", ".*"])
_METHODS = st.sampled_from(["", "GET", "GET|PUT", "P.*", "[A-Z]+"])
_HOSTS = st.sampled_from(["", "h", "h(:80)?", ".*h"])
_HEADERS = st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from([None, "1", "1,2"])), max_size=2).map(tuple)
_RULES = st.lists(st.builds(HttpRule, _METHODS, _PATHS, _HOSTS, _HEADERS), max_size=6)
_REQUESTS = st.builds(
    HttpRequest,
    st.sampled_from([b"GET", b"PUT", b"POST", b""]),
    st.sampled_from([b"/a", b"/a/", b"/a/b", b"/abc", b"/a\n", b"/a/\xff", b"", b"/b", b"/a?q"]),
    st.sampled_from([b"h", b"h:80", b"xh", b""]),
    st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2", b""])), max_size=3).map(tuple),
)


def naive(rule: HttpRule, request: HttpRequest) -> bool:
    for pattern, value in ((rule.path, request.path), (rule.method, request.method), (rule.host, request.host)):
        if pattern and compiled(encode(pattern)).fullmatch(value) is None:
            return False
    for name, wanted in rule.headers:
        values = [value for key, value in request.headers if key == name.encode()]
        if not values or (wanted is not None and b",".join(values) != wanted.encode()):
            return False
    return True


@settings(max_examples=400)
@given(_RULES, _REQUESTS)
def test_judge_says_what_the_rules_say(rules: list[HttpRule], request: HttpRequest) -> None:
    expected = next((index + 1 for index, rule in enumerate(rules) if naive(rule, request)), None)
    asked = matcher(*rules)
    assert asked.judge(request) == expected
    if expected is None and rules:
        assert "it matches" not in asked.explain(request, {})
