"""`penstock policy validate`: files as the agent would read them, without an agent.

Uses the loader of the agent, so what passes here loads there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from config import codes
from config.endpoints import EndpointsFile
from config.files import policy_files
from config.findings import Finding, Severity, make_finding
from config.manifests import read_endpoints
from config.policy.lint.run import lint as run_lints
from config.policy.lint.sources import findings_of
from config.policy.lint.view import Note, View
from config.policy.load import LoadedFile, duplicates, load_file
from config.policy.references import references_of
from config.policy.rules import Document

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

    def only_errors(self) -> Report:
        """Without findings that do not count as errors."""
        kept = ((file, tuple(filter(self._counts, file.findings))) for file in self.files)
        return replace(self, files=tuple(replace(file, findings=findings) for file, findings in kept))

    def to_json(self) -> Json:
        return {"valid": self.valid, "files": [_file_json(file) for file in self.files]}

    def to_text(self, *, quiet: bool = False) -> str:
        """One line per finding, `file:line:column: error[CODE] message`, a line with what helps, and a sum.

        `quiet`: only findings that count as errors.
        """
        lines: list[str] = []
        for file in (self.only_errors() if quiet else self).files:
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


def validate(
    paths: Iterable[Path],
    endpoints: Sequence[Path] = (),
    *,
    strict: bool = False,
    lint: bool = False,
    progress: Callable[[LoadedFile], None] | None = None,
) -> Report:
    """Checks files, and folders with all policy files below them; with `lint`, also what they say together.

    `endpoints` are endpoints files or manifests. `progress` is called for every file that was read.
    """
    files: list[LoadedFile] = []
    seen: set[Path] = set()
    for path in paths:
        for file in _load(path, seen):
            files.append(file)
            if progress is not None:
                progress(file)
    files = _with_duplicates(files)
    known = read_endpoints(endpoints) if endpoints else None
    if lint:
        files = _with_lint(files, known)
    if known is not None:
        files.extend(_endpoints_files(endpoints, known))
    return Report(tuple(files), strict)


def _endpoints_files(paths: Iterable[Path], known: EndpointsFile) -> list[LoadedFile]:
    found: dict[str, list[Finding]] = {str(path): [] for path in paths}
    for finding in known.findings:
        found.setdefault(finding.file, []).append(finding)
    return [LoadedFile(name, findings=tuple(findings)) for name, findings in found.items()]


def _with_lint(files: list[LoadedFile], endpoints: EndpointsFile | None) -> list[LoadedFile]:
    """The files with what lints find, and without what their policies ask to ignore."""
    documents = _first_of_each(files)
    references = references_of(item for file in files for item in file.objects)
    known = None
    if endpoints is not None and endpoints.ok:
        known = replace(endpoints.on_this_node(), findings=())
    notes: dict[str, list[Note]] = {}
    for note in run_lints(View(documents, references, known)):
        notes.setdefault(note.document.file, []).append(note)
    return [
        replace(file, findings=tuple(findings_of(Path(file.path), notes.get(file.path, ()), file.findings)))
        if file.path in notes or any(not finding.is_error for finding in file.findings)
        else file
        for file in files
    ]


def _first_of_each(files: Iterable[LoadedFile]) -> tuple[Document, ...]:
    """Of several documents about one object the one that counts."""
    found: dict[tuple[str, str, str], Document] = {}
    for document in sorted((d for file in files for d in file.documents), key=lambda d: (d.file, d.line)):
        found.setdefault(document.key, document)
    return tuple(found.values())


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
