"""Findings as others read them: nothing in a finding can end its line, its field, or its string."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import codes
from config.findings import Finding, make_finding
from proxy.cli.reports import github_lines, sarif


def finding(file: str = "a.yaml", message: str = "m", line: int = 0) -> Finding:
    return make_finding(codes.FILE_UNREADABLE, file, message, line=line, hint="")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("100%", "100%25"),
        ("a::b", "a::b"),
        ("a\nb\rc", r"a\nb\rc"),
        ("\x1b[2J", "^[[2J"),
    ],
)
def test_github_messages(text: str, shown: str) -> None:
    (line,) = github_lines([finding(message=text)])
    assert line == f"::error file=a.yaml,title=YML010 the file cannot be read::{shown}"


def test_github_severities() -> None:
    found = [make_finding(code, "a.yaml", "m", line=1) for code in (codes.PATH_QUERY, codes.SHADOWED, codes.CIDR_BAD)]
    assert [line.split()[0] for line in github_lines(found)] == ["::notice", "::warning", "::error"]


def test_sarif_places() -> None:
    found = [finding("a.yaml"), finding("/x y/z.yaml", line=3), finding(str(Path.cwd() / "b.yaml"))]
    results = sarif(found, "1")["runs"][0]["results"]
    places = [item["locations"][0]["physicalLocation"] for item in results]
    assert places == [
        {"artifactLocation": {"uri": "a.yaml"}},
        {"artifactLocation": {"uri": "file:///x%20y/z.yaml"}, "region": {"startLine": 3, "startColumn": 1}},
        {"artifactLocation": {"uri": "b.yaml"}},
    ]


def test_sarif_levels_and_rules() -> None:
    found = [make_finding(code, "a.yaml", "m") for code in (codes.SHADOWED, codes.PATH_QUERY, codes.SHADOWED)]
    run = sarif(found, "1")["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["CNP320", "CNP325"]
    assert [(item["ruleIndex"], item["level"]) for item in run["results"]] == [
        (0, "warning"),
        (1, "note"),
        (0, "warning"),
    ]
