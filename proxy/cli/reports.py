"""What `policy validate` found, as others read it: workflow commands of GitHub, and SARIF 2.1.0 (OASIS).

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from config import codes
from config.findings import Code, Finding, Severity
from proxy.flows.printers import clean

_COMMANDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def github_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """`::error file=…,line=…,col=…,title=CODE title::message`, one line for each."""
    for finding in findings:
        code = codes.ALL[finding.code]
        places = {"file": _relative(finding.file), "line": finding.line, "col": finding.column}
        properties = {**places, "title": f"{code.id} {code.title}"}
        shown = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items() if value)
        text = f"{finding.message} ({finding.hint})" if finding.hint else finding.message
        yield f"::{_COMMANDS[finding.severity]} {shown}::{_data(text)}"


def _data(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def sarif(findings: Iterable[Finding], version: str) -> dict[str, Any]:
    """One run; only the rules that something was found by."""
    found = list(findings)
    rules = sorted({finding.code for finding in found})
    driver = {"name": "penstock", "version": version, "rules": [_rule(codes.ALL[name]) for name in rules]}
    results = [_result(finding, rules.index(finding.code)) for finding in found]
    # Findings count characters, as SARIF's default for text in UTF-8 does not.
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: Code) -> dict[str, Any]:
    return {
        "id": code.id,
        "shortDescription": {"text": code.title},
        "help": {"text": code.hint or code.title},
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
    }


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.file)}}
    if finding.line:
        place["region"] = {"startLine": finding.line, "startColumn": max(1, finding.column)}
    location: dict[str, Any] = {"physicalLocation": place}
    if finding.path:
        location["logicalLocations"] = [{"fullyQualifiedName": clean(finding.path)}]
    text = f"{finding.message} ({finding.hint})" if finding.hint else finding.message
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": clean(text)},
        "locations": [location],
    }


def _relative(name: str) -> str:
    """Below the folder where the command runs, if it is there: that is where the repository is."""
    path = os.path.relpath(name)
    return name if path.startswith("..") else path


def _uri(name: str) -> str:
    path = _relative(name)
    return quote(Path(path).as_posix()) if not os.path.isabs(path) else Path(path).as_uri()
