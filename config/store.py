"""The files on disk and what of them is in force: the last good version of each, or a stand-in that denies.

One broken file must neither stop the others nor take back what it said while it was whole. A file that never was
whole denies what it may have been about. Only a file that is really gone is forgotten; one that cannot be read, or a
folder that cannot be listed, is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from config import codes
from config.endpoints import EndpointsFile, parse_endpoints
from config.files import policy_files
from config.findings import Finding, has_errors, make_finding
from config.policy.load import LoadedFile, duplicates, parse_file
from config.policy.lockdown import Lockdown, stand_in
from config.policy.resolve import resolve
from config.policy.resolved import Snapshot
from config.policy.rules import Document
from config.settings import Settings
from config.text import read_file


@dataclass(frozen=True, slots=True)
class Refresh:
    """The outcome of one look at the files. `snapshot` is None when nothing that is in force changed.

    `stale_files` are broken and keep their last good version; `denying_files` are broken and never had one. Until the
    endpoints are known (`endpoints_known`) there is no snapshot at all: what an earlier agent left in the kernel must
    not be taken away because a file is broken now.
    """

    snapshot: Snapshot | None
    revision: int
    findings: tuple[Finding, ...] = ()
    stale_files: tuple[str, ...] = ()
    denying_files: tuple[str, ...] = ()
    endpoints_known: bool = True

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)


@dataclass(slots=True)
class _File:
    """One policy file: what it says now, and what it said when it was last whole."""

    digest: bytes
    latest: LoadedFile
    good: LoadedFile | None = None

    @property
    def is_stale(self) -> bool:
        return self.good is not None and self.good is not self.latest

    @property
    def in_force(self) -> tuple[Document, ...]:
        if self.good is not None:
            return self.good.documents
        return (*self.latest.documents, stand_in(self.latest.lockdowns, self.latest.path))


class PolicyStore:
    """Policies and endpoints as of the last `refresh`. Not for two threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[Path, _File] = {}
        self._folder_findings: list[Finding] = []
        self._folder_known = False
        self._endpoints = EndpointsFile()
        self._endpoints_digest: bytes | None = None
        self._endpoints_findings: tuple[Finding, ...] = ()
        self._endpoints_good = settings.endpoints_file is None
        self._resolved: object = None
        self._revision = 0

    def refresh(self) -> Refresh:
        """Reads what changed and resolves it. Never raises for what files contain."""
        self._read_folder()
        self._read_endpoints()
        doubles = duplicates(file.good or file.latest for file in self._files.values())
        dropped = {id(document) for document, _ in doubles}
        documents = [item for item in self._documents() if id(item) not in dropped]
        snapshot = self._resolve(documents)
        stale = sorted(str(path) for path, file in self._files.items() if file.is_stale)
        denying = sorted(str(path) for path, file in self._files.items() if not file.latest.ok and not file.good)
        if has_errors(self._endpoints_findings) and self._endpoints_good:
            stale.append(str(self._settings.endpoints_file))
        if self._folder_findings:
            (stale if self._folder_known else denying).append(str(self._settings.policy_dir))
        return Refresh(
            snapshot=snapshot,
            revision=self._revision,
            findings=tuple(self._findings(finding for _, finding in doubles)),
            stale_files=tuple(stale),
            denying_files=tuple(denying),
            endpoints_known=self._endpoints_good,
        )

    def _documents(self) -> Iterable[Document]:
        for path in sorted(self._files):
            yield from self._files[path].in_force
        if self._folder_findings and not self._folder_known:
            yield stand_in((Lockdown(deny=True),), str(self._settings.policy_dir))

    def _findings(self, doubles: Iterable[Finding]) -> Iterable[Finding]:
        found = [*self._folder_findings, *doubles, *self._endpoints_findings]
        for path, file in self._files.items():
            found.extend(file.latest.findings)
            if not file.latest.ok:
                code = codes.DOC_STALE if file.good else codes.DOC_LOCKED
                found.append(make_finding(code, str(path), code.title))
        return sorted(set(found))

    def _resolve(self, documents: list[Document]) -> Snapshot | None:
        """A new revision if anything in force is different."""
        if not self._endpoints_good:
            return None
        content = (tuple(documents), self._endpoints)
        if content == self._resolved:
            return None
        snapshot = resolve(documents, self._endpoints, self._settings, self._revision + 1)
        self._resolved, self._revision = content, self._revision + 1
        return snapshot

    # Policy files

    def _read_folder(self) -> None:
        folder = self._settings.policy_dir
        self._folder_findings = []
        if folder is None:
            return
        try:
            paths = [folder] if folder.is_file() else policy_files(folder)
        except OSError as problem:
            message = f"the folder cannot be listed: {problem.strerror}"
            self._folder_findings.append(make_finding(codes.FILE_UNREADABLE, str(folder), message))
            return
        self._folder_known = True
        for path in paths:
            self._read_policy_file(path)
        for path in set(self._files) - set(paths):
            del self._files[path]

    def _read_policy_file(self, path: Path) -> None:
        known = self._files.get(path)
        data = read_file(path)
        if isinstance(data, Finding) and not os.path.lexists(path):
            # Gone since the folder was listed.
            self._files.pop(path, None)
            return
        if isinstance(data, Finding):
            unreadable = LoadedFile(str(path), findings=(data,), lockdowns=(Lockdown(deny=True),))
            self._files[path] = _File(b"", unreadable, known.good if known else None)
            return
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if known is not None and known.digest == digest:
            return
        latest = parse_file(data, str(path))
        before = known.good if known else None
        if before is not None and before.documents and latest.ok and not latest.summaries:
            # A writer that does not replace the file empties it first.
            emptied = make_finding(codes.DOC_EMPTIED, str(path), codes.DOC_EMPTIED.title)
            self._files[path] = _File(digest, replace(latest, findings=(emptied,)), before)
            return
        self._files[path] = _File(digest, latest, latest if latest.ok else before)

    # Endpoints file

    def _read_endpoints(self) -> None:
        path = self._settings.endpoints_file
        if path is None:
            return
        data = read_file(path)
        if isinstance(data, Finding):
            self._endpoints_findings, self._endpoints_digest = (data,), None
            return
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest == self._endpoints_digest:
            return
        self._endpoints_digest = digest
        latest = parse_endpoints(data, str(path))
        self._endpoints_findings = latest.findings
        if latest.ok:
            self._endpoints = replace(latest, findings=())
            self._endpoints_good = True
