"""`penstock policy validate`: files as the agent would read them, without an agent.

Uses the loader of the agent, so what passes here loads there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from config import codes
from config.endpoints import load_endpoints
from config.files import policy_files
from config.findings import Finding, Severity, make_finding
from config.policy.load import LoadedFile, duplicates, load_file

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """All files with what was found. `strict`: warnings count as errors."""

    files: tuple[LoadedFile, ...]
    strict: bool = False

    @property
    def valid(self) -> bool:
        return not any(self._counts(finding) for file in self.files for finding in file.findings)

    def _counts(self, finding: Finding) -> bool:
        return finding.is_error or (self.strict and finding.severity is Severity.WARNING)

    def to_json(self) -> Json:
        return {"valid": self.valid, "files": [_file_json(file) for file in self.files]}

    def to_text(self) -> str:
        """One line per finding, `file:line:column: error[CODE] message`, a line with what helps, and a sum."""
        lines: list[str] = []
        for file in self.files:
            for finding in file.findings:
                lines.append(str(finding))
                if finding.hint:
                    lines.append(f"    {finding.hint}")
        counted = [sum(item.severity is kind for file in self.files for item in file.findings) for kind in Severity]
        policies = sum(len(file.documents) for file in self.files)
        lines.append(
            f"{len(self.files)} files, {policies} policies: {counted[0]} errors, {counted[1]} warnings, "
            f"{counted[2]} notes"
        )
        return "\n".join(lines) + "\n"


def _file_json(file: LoadedFile) -> Json:
    return {
        "path": file.path,
        "documents": [
            {"kind": item.kind, "namespace": item.namespace, "name": item.name, "valid": item.valid}
            for item in file.summaries
        ],
        "findings": [finding_json(finding) for finding in file.findings],
    }


def finding_json(finding: Finding) -> Json:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "line": finding.line,
        "column": finding.column,
        "path": finding.path,
        "message": finding.message,
        "hint": finding.hint,
    }


def validate(paths: Iterable[Path], endpoints: Path | None = None, *, strict: bool = False) -> Report:
    """Checks files, and folders with all policy files below them."""
    files: list[LoadedFile] = []
    seen: set[Path] = set()
    for path in paths:
        files.extend(_load(path, seen))
    files = _with_duplicates(files)
    if endpoints is not None:
        files.append(LoadedFile(str(endpoints), findings=load_endpoints(endpoints).findings))
    return Report(tuple(files), strict)


def _load(path: Path, seen: set[Path]) -> Iterable[LoadedFile]:
    try:
        found: Sequence[Path] = policy_files(path) if path.is_dir() else [path]
    except OSError as problem:
        message = f"the folder cannot be listed: {problem.strerror}"
        yield LoadedFile(str(path), findings=(make_finding(codes.FILE_UNREADABLE, str(path), message),))
        return
    for file in found:
        if file not in seen:
            seen.add(file)
            yield load_file(file)


def _with_duplicates(files: list[LoadedFile]) -> list[LoadedFile]:
    extra: dict[str, list[Finding]] = {}
    invalid: set[tuple[str, int]] = set()
    for document, finding in duplicates(files):
        extra.setdefault(document.file, []).append(finding)
        invalid.add((document.file, document.line))
    return [
        replace(
            file,
            findings=tuple(sorted([*file.findings, *extra[file.path]])),
            summaries=tuple(
                replace(item, valid=item.valid and (file.path, item.line) not in invalid) for item in file.summaries
            ),
        )
        if file.path in extra
        else file
        for file in files
    ]
