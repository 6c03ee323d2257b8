from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from config.policy.patterns import (
    MAX_TEXT,
    Exact,
    General,
    Prefix,
    classify,
    compiled,
    encode,
    fault,
    program_size,
    total_size,
)


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("/public", Exact((b"/public",))),
        ("^/public$", Exact((b"/public",))),
        (r"/a\.json", Exact((b"/a.json",))),
        ("GET|HEAD", Exact((b"GET", b"HEAD"))),
        ("(GET|HEAD)", Exact((b"GET", b"HEAD"))),
        ("(?:GET)", Exact((b"GET",))),
        ("/api/.*", Prefix((b"/api/",))),
        (r"/v1\.0/.*", Prefix((b"/v1.0/",))),
        (".*", Prefix((b"",))),
        ("/a.*|/b.*", Prefix((b"/a", b"/b"))),
        ("/é", Exact(("/é".encode(),))),
    ],
)
def test_plain_patterns(pattern: str, kind: Exact | Prefix) -> None:
    assert classify(pattern) == kind


@pytest.mark.parametrize(
    "pattern",
    [
        "/a.json",
        "/api/v1/users/?.*",
        "/a|/b.*",
        r"/a\..*x",
        r"/\d+",
        r"/a\.*",
        "(?i)get",
        "[a-z]+",
        "a{2}",
        "^GET|HEAD$",
        "(a)|(b)",
        r"\Qa.b\E",
        "a\\",
        "a$b",
        ".*public$",
    ],
)
def test_real_expressions(pattern: str) -> None:
    assert classify(pattern) == General(encode(pattern))


def plain_match(pattern: str, value: bytes) -> bool:
    """As `http.py` reads the classes."""
    match classify(pattern):
        case Exact(texts):
            return value in texts
        case Prefix(texts):
            return any(value.startswith(text) and b"\n" not in value[len(text) :] for text in texts)
        case General(whole):
            return compiled(whole).fullmatch(value) is not None


PIECES = st.sampled_from(
    [
        "a",
        "b",
        "/",
        ".*",
        ".",
        "|",
        "(",
        ")",
        "?:",
        "^",
        "$",
        "\\.",
        "\\",
        "\\n",
        "\\|",
        "[ab]",
        "x{2}",
        "?",
        "\n",
        "é",
        "*",
    ]
)


@given(
    st.lists(PIECES, max_size=7).map("".join),
    st.lists(st.sampled_from([b"a", b"b", b"/", b".", b"|", b"\n", b"\xff"]), max_size=5),
)
def test_classes_match_what_re2_matches(pattern: str, value: list[bytes]) -> None:
    try:
        expression = compiled(encode(pattern))
    except re2.error:
        return
    text = b"".join(value)
    assert plain_match(pattern, text) == (expression.fullmatch(text) is not None)


@pytest.mark.parametrize("pattern", ["*", "(", r"\1", "(?=a)", "(?<!a)b", "[z-a]", r"\Z"])
def test_faults(pattern: str) -> None:
    found = fault(pattern)
    assert found is not None
    assert found[0] is False
    assert pattern in found[1]


@pytest.mark.parametrize(
    "pattern", ["(.*a.{500}x)+", "a{1001}", "((a{100}){10}){10}", "a" * (MAX_TEXT + 1), "(" * 5000 + ")" * 5000]
)
def test_expensive_patterns(pattern: str) -> None:
    found = fault(pattern)
    assert found is not None
    assert found[0] is True
    assert len(found[1]) < 300


def test_any_byte_matches_a_dot() -> None:
    assert compiled(b"/.*x").fullmatch(b"/\xff\x80x")


def test_dollar_is_the_very_end() -> None:
    assert compiled(b"/a$").fullmatch(b"/a\n") is None


def test_what_needs_no_re2_counts_nothing_in_a_list() -> None:
    general = "/v[0-9]+/x"
    assert total_size(["/a", "/b.*", "GET|POST", ".*"]) == 0
    assert total_size(["/a", general, general]) == total_size([general]) == program_size(general.encode()) > 0
