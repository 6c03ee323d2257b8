"""HTTP rules that match less, or more, than they look like."""

from __future__ import annotations

import pytest

from config import codes
from config.findings import Code
from tests.config.policy.lint.builders import a, found, http, notes_of

CODES = (codes.HOST_DOT, codes.PATH_DOT, codes.PATH_NEVER, codes.METHOD_CASE, codes.PATH_QUERY, codes.HTTP_ON_TLS)


def rules(field: str, value: str) -> list[str]:
    rule = http(f"{field}: '{value}'")
    notes = notes_of(a(f"ingress: [{rule}]"))
    for note in notes:
        assert note.path == ("spec", "ingress", 0, "toPorts", 0, "rules", "http", 0, field)
    return found(notes)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("host", "api.example.com", [codes.HOST_DOT]),
        ("host", ".*.example.com", [codes.HOST_DOT]),
        ("host", "[a-z]+.example", [codes.HOST_DOT]),
        ("host", r"api\.example\.com", []),
        ("host", r".*\.example\.com", []),
        ("host", r"api[.]example[.]com", []),
        ("host", "localhost", []),
        ("host", ".*", []),
        ("path", "/index.html", [codes.PATH_DOT, codes.PATH_QUERY]),
        ("path", r"/index\.html(\?.*)?", []),
        ("path", r"/.*\.js", []),
        ("path", "/.*", []),
        ("path", "/v1.0/.*", []),
        ("path", "api/.*", [codes.PATH_NEVER]),
        ("path", "api", [codes.PATH_NEVER]),
        ("path", "(a|b)/.*", [codes.PATH_NEVER]),
        ("path", "[a-z]+", [codes.PATH_NEVER]),
        ("path", ".*api", []),
        ("path", "(a|/b.*)", []),
        ("path", r"\*", [codes.PATH_QUERY]),
        ("path", "^/x.*$", []),
        ("path", "/x", [codes.PATH_QUERY]),
        ("path", "^/x$", [codes.PATH_QUERY]),
        ("path", "/users/[0-9]+", [codes.PATH_QUERY]),
        ("path", r"/users/\d+", [codes.PATH_QUERY]),
        ("path", "/users/[^/]+", []),
        ("path", r"/x(\?a=1)?", []),
        ("path", r"/x\?a=1", []),
        ("path", "/x[?]a=1", []),
        ("method", "get", [codes.METHOD_CASE]),
        ("method", "GET|post", [codes.METHOD_CASE]),
        ("method", "Get", [codes.METHOD_CASE]),
        ("method", "GET|POST", []),
        ("method", "(?i)get", []),
        ("method", ".*", []),
        ("method", "[a-z]+", []),
    ],
)
def test_patterns(field: str, value: str, expected: list[Code]) -> None:
    assert rules(field, value) == [code.id for code in expected]


def test_what_was_meant_is_shown() -> None:
    (note,) = notes_of(a(f"ingress: [{http('host: api.example.com')}]"))
    assert r'"api\.example\.com" may be meant' in note.message


def test_queries_are_told_once_for_each_policy() -> None:
    entries = f"ingress: [{http('path: /x')}, {http('path: /y', port='81')}]"
    notes = notes_of(a(entries), a(entries, name="q", subject="{matchLabels: {id: b}}"))
    assert found(notes) == [codes.PATH_QUERY.id] * 2


@pytest.mark.parametrize(("port", "told"), [("443", True), ("8443", True), ("https", True), ("80", False)])
def test_http_on_ports_of_tls(port: str, told: bool) -> None:
    assert (codes.HTTP_ON_TLS.id in found(notes_of(a(f"ingress: [{http(port=port)}]")))) is told


def test_codes_of_requests_are_no_errors() -> None:
    assert not any(code.severity == "error" for code in CODES)
