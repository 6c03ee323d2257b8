from __future__ import annotations

import re
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import codes
from config.findings import Code
from config.yaml_values import MAX_ALIASES, MAX_DEPTH, Value, YamlRefused, read_documents


def only(text: str | bytes) -> Value:
    documents, refused = read_documents(text.encode() if isinstance(text, str) else text)
    assert refused is None, refused
    (document,) = documents
    return document.value


def refusal(data: str | bytes) -> YamlRefused:
    _, refused = read_documents(data.encode() if isinstance(data, str) else data)
    assert refused is not None
    return refused


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("0123", "0123"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        (".nan", ".nan"),
        ("80", 80),
        ("-1", -1),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'80'", "80"),
        ('"true"', "true"),
        ("''", ""),
        ("|\n  a\n", "a\n"),
        ("9" * 40, "9" * 40),
    ],
)
def test_scalars(text: str, value: Value) -> None:
    found = only(f"key: {text}\n")
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("key", ["on", "8080", "true", "no"])
def test_keys_stay_text(key: str) -> None:
    assert only(f"{key}: x") == {key: "x"}


def test_several_documents_and_a_byte_order_mark() -> None:
    documents, refused = read_documents("\ufeffa: 1\n---\n- b\n---\n".encode())
    assert refused is None
    assert [document.value for document in documents] == [{"a": 1}, ["b"], None]


def test_json_is_accepted() -> None:
    assert only('{"a": [1, true, null, "x\\u00e9"], "b": {\n\t"c": "d"}}') == {
        "a": [1, True, None, "xé"],
        "b": {"c": "d"},
    }


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a: 1\nb: [1\n", codes.YAML_SYNTAX, 3, 1),
        ("a: b: c", codes.YAML_SYNTAX, 1, 5),
        ("\tb: 1", codes.YAML_SYNTAX, 1, 1),
        ("a: 1\nb: 2\na: 3\n", codes.YAML_DUPLICATE, 3, 1),
        ("a: {x: 1, x: 2}", codes.YAML_DUPLICATE, 1, 11),
        ("a: !!python/object/apply:os.system [ls]", codes.YAML_TAG, 1, 4),
        ("a: !!str 5", codes.YAML_TAG, 1, 4),
        ("a: &x {k: 1}\nb:\n  <<: *x\n", codes.YAML_MERGE, 3, 3),
        ("? [a]\n: b", codes.YAML_KEY, 1, 3),
        ("{{.Name}}: x", codes.YAML_KEY, 1, 1),
        ("a: &x [*x]", codes.YAML_SYNTAX, 1, 8),
        ("a: *nothing", codes.YAML_SYNTAX, 1, 4),
        ("[" * (MAX_DEPTH + 1), codes.YAML_DEPTH, 1, MAX_DEPTH + 1),
        ("a: \x00", codes.YAML_SYNTAX, 0, 0),
    ],
)
def test_refusals(text: str, code: Code, line: int, column: int) -> None:
    refused = refusal(text)
    assert (refused.code, refused.line, refused.column) == (code, line, column)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    refused = refusal(mark + "a: 1".encode(encoding))
    assert refused.code is codes.YAML_ENCODING
    assert encoding.upper()[:6] in str(refused)


def test_bytes_that_are_not_utf8_are_located() -> None:
    refused = refusal(b"a: 1\nb: caf\xe9\n")
    assert (refused.code, refused.line, refused.column) == (codes.YAML_ENCODING, 2, 7)


def test_what_stood_before_a_refusal_is_kept() -> None:
    documents, refused = read_documents(b"a: 1\n---\nb: [\n")
    assert [document.value for document in documents] == [{"a": 1}]
    assert refused is not None


def test_few_aliases_are_accepted() -> None:
    assert only("a: &x {k: [1]}\nb: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_anchors_do_not_reach_into_the_next_document() -> None:
    assert refusal("a: &x 1\n---\nb: *x\n").code is codes.YAML_SYNTAX


def test_many_aliases_are_refused() -> None:
    text = "a: &x 1\nb: [" + ", ".join(["*x"] * (MAX_ALIASES + 1)) + "]"
    assert refusal(text).code is codes.YAML_ALIASES


def test_billion_laughs() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert refusal("\n".join(lines)).code in (codes.YAML_ALIASES, codes.YAML_SIZE)


def test_values_that_aliases_multiply_count() -> None:
    # 60 aliases, each level six times the one before: more than a million values from 11 lines.
    lines = ["a0: &a0 [x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 6)}]" for n in range(1, 11)]
    assert refusal("\n".join(lines)).code is codes.YAML_SIZE


def test_places() -> None:
    (document,), _ = read_documents(
        dedent(
            """\
            spec:
              ingress:
              - fromCIDR:
                - 10.0.0.0/8
                -   bad
              x: {y: 1}
            """
        ).encode()
    )
    place = document.place
    assert place.find(("spec", "ingress", 0, "fromCIDR", 1)) == (5, 9)
    assert place.find(("spec", "ingress"), key=True) == (2, 3)
    assert place.find(("spec", "x", "y")) == (6, 10)
    assert place.find(("spec", "x", "missing", "deeper")) == (6, 6)


# The writer knows YAML 1.1, where a number with an exponent needs a dot, and leaves the text "0E0" without quotes.
_TEXTS = st.text(max_size=20).filter(lambda text: not re.match(r"[-+]?[0-9.]+[eE]", text))
_SCALARS = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | _TEXTS
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_what_a_yaml_writer_writes_is_read_back(value: object) -> None:
    assert only(yaml.safe_dump(value, allow_unicode=False)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_a_refusal(data: bytes) -> None:
    read_documents(data)


@given(st.text(alphabet="ab:{}[]-&*!?|>'\"#, \n", max_size=60))
def test_any_text_is_values_or_a_refusal(text: str) -> None:
    read_documents(text.encode())
