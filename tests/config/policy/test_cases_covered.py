"""Every row of the reference's table of cases is named by a test, or stands here with the reason why not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
CASES = TESTS.parents[1] / "shared" / "reference" / "cilium-cases.md"

if not CASES.is_file():
    if os.environ.get("CI") == "true":
        pytest.fail(f"the reference cases are not at {CASES}", pytrace=False)
    pytest.skip(f"NOT TESTED: the reference cases are not at {CASES}", allow_module_level=True)

EXCEPTIONS = {
    "V27": "there is no Envoy whose listeners could be named: refused (CNP212)",
    "V36": "only TCP, UDP, SCTP and ICMP are enforced: other protocols are refused (CNP216)",
    "V37": "as V36",
    "D20": "a backslash is no character of a DNS name: refused (CNP140) rather than half understood",
    "N09": "one cluster only: there is no default-local-cluster",
    "M40": "TLS is not terminated: refused (CNP211)",
    "F25": "Metadata of all topics is how clients begin: permitted, and its answer is to be filtered",
    "G12": "an endPort below the port is no range, as Cilium's own agent has it; its proxy refuses it",
    "G13": "as G12: a range from port 0 is refused when the file is read (CNP113)",
}
"""Rows about the language that are not followed or cannot be."""

LATER = {
    **dict.fromkeys(
        ("Q20", "Q21", "Q22", "Q41"), "nothing is restored: an agent has its policies before it serves DNS at all"
    ),
    "Q27": "the kernel tells where each query was sent to; one of which it does not is not answered, but counted",
    "F14": "`l7_proto` without rules is a setting of Cilium's proxy library: refused in policies (CNP209)",
    **dict.fromkeys(
        ("G01", "G18", "H17", "H18"), "how a proxy gets its policies from an agent; ours gets whole snapshots"
    ),
    "H20": "a header of Envoy's own",
    "H21": "nothing here looks at X-Forwarded-For",
}
"""Rows about parts that are not there (yet), or not in this form."""

LANGUAGE = frozenset("VDNMXRPEKLGH") | {"Q", "F"}
MAX_EXCEPTIONS = 0.05


def rows() -> list[str]:
    text = CASES.read_text(encoding="utf-8")
    return re.findall(r"^\| ([A-Z]\d+) \|", text, re.MULTILINE)


def named_by_tests() -> set[str]:
    own = Path(__file__)
    texts = [path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py") if path != own]
    return {name for text in texts for name in re.findall(r"(?<![A-Za-z0-9_])[A-Z]\d{2}(?!\d)", text)}


def test_every_row_is_tested_or_has_its_reason() -> None:
    known = set(rows())
    assert len(known) > 250
    assert known - named_by_tests() - EXCEPTIONS.keys() - LATER.keys() == set()


def test_the_lists_name_rows_that_are_there_and_not_tested() -> None:
    listed = EXCEPTIONS.keys() | LATER.keys()
    assert listed - set(rows()) == set()
    assert not EXCEPTIONS.keys() & LATER.keys()
    assert listed & named_by_tests() == set()


def test_exceptions_are_few() -> None:
    language = [name for name in rows() if name[0] in LANGUAGE and name not in LATER]
    assert len(EXCEPTIONS) < MAX_EXCEPTIONS * len(language)
