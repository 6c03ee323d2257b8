"""The canonical form of request targets: what is judged is what is forwarded."""

from __future__ import annotations

import pytest

from parsers.errors import ParseError
from parsers.http.target import canonical_path, check_authority, split_target

CANONICAL = [
    (b"/", b"/"),
    (b"/a/b.html", b"/a/b.html"),
    (b"/a/?x=../..", b"/a/?x=../.."),
    (b"/a/../b", b"/b"),
    (b"/a/..", b"/"),
    (b"/../../b", b"/b"),
    (b"/a/./b/.", b"/a/b/"),
    (b"/a//b///c", b"/a/b/c"),
    (b"//a", b"/a"),
    (b"/p//../a", b"/p/a"),
    (b"/%2e%2E/a", b"/a"),
    (b"/%61%7e", b"/a~"),
    (b"/%c3%a4", b"/%C3%A4"),
    (b"/%252e", b"/%252e"),
    (b"/.hidden/...", b"/.hidden/..."),
    (b"/a;v=1/b", b"/a;v=1/b"),
    (b"/a?%zz", b"/a?%zz"),
    (b"/%0d%0a", b"/%0D%0A"),
]

REFUSED = [
    b"/a#b",
    b"/a\\b",
    b"/%2fa",
    b"/%5Ca",
    b"/%00",
    b"/%",
    b"/%a",
    b"/%zz",
    b"/a/..;/b",
    b"/.;x",
    b"a",
    b"?q",
    b"",
]


@pytest.mark.parametrize(("target", "canonical"), CANONICAL)
def test_canonical_form(target: bytes, canonical: bytes) -> None:
    assert canonical_path(target) == canonical


@pytest.mark.parametrize(("_", "canonical"), CANONICAL)
def test_canonical_form_is_stable(_: bytes, canonical: bytes) -> None:
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize("target", REFUSED)
def test_refused_targets(target: bytes) -> None:
    with pytest.raises(ParseError):
        canonical_path(target)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/x", (b"/x", None)),
        (b"OPTIONS", b"*", (b"*", None)),
        (b"GET", b"http://a.test", (b"/", b"a.test")),
        (b"GET", b"HTTP://a.test:81/x/../y?z", (b"/y?z", b"a.test:81")),
        (b"GET", b"http://a.test?q=1", (b"/?q=1", b"a.test")),
    ],
)
def test_forms_of_target(method: bytes, target: bytes, expected: tuple[bytes, bytes | None]) -> None:
    assert split_target(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"*"),
        (b"GET", b"a.test:443"),
        (b"GET", b"https://a.test/"),
        (b"GET", b"ftp://a.test/"),
        (b"GET", b"http:///x"),
        (b"GET", b"http://u@a.test/"),
        (b"GET", b"x"),
    ],
)
def test_refused_forms(method: bytes, target: bytes) -> None:
    with pytest.raises(ParseError):
        split_target(method, target)


@pytest.mark.parametrize(
    "authority", [b"a", b"a.test:80", b"127.0.0.1", b"[::1]", b"[::1]:8080", b"a_b.test.", b"x:65535"]
)
def test_authorities(authority: bytes) -> None:
    check_authority(authority)


@pytest.mark.parametrize(
    "authority",
    [b"", b"a:", b"a:080", b"a:0", b"a:65536", b"u@a", b"a,b", b"a b", b"a/p", b"a%00", b"[::1", b"::1", b"a:80:80"],
)
def test_refused_authorities(authority: bytes) -> None:
    with pytest.raises(ParseError):
        check_authority(authority)
