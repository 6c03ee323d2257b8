"""The files on disk and what of them is in force: the last good version of each, or a stand-in that denies.

One broken file must neither stop the others nor take back what it said while it was whole. A file that never was
whole denies what it may have been about. Only a file that is really gone is forgotten; one that cannot be read, or a
folder that cannot be listed, is not.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from config import codes
from config.endpoints import EndpointsFile, parse_endpoints
from config.files import is_policy_file, policy_file_names
from config.findings import Finding, has_errors, make_finding
from config.policy.load import LoadedFile, parse_file
from config.policy.lockdown import Lockdown, stand_in
from config.policy.references import References, references_of
from config.policy.resolve import Resolver, Selection
from config.policy.resolved import Snapshot
from config.policy.rules import Document
from config.secrets import read_secrets
from config.settings import Settings
from config.text import read_file
from config.versions import Objects, PolicyFile, policy_file

_SETTLED_NS = 100_000_000
"""A file that was changed less than this before it was read may change again without its times telling."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """The outcome of one look at the files. `snapshot` is None when nothing that is in force changed.

    `news` are the findings that the look before did not have. `stale_files` are broken and keep their last good
    version; `denying_files` are broken and never had one. Until the endpoints are known (`endpoints_known`) there is no
    snapshot at all: what an earlier agent left in the kernel must not be taken away because a file is broken now.
    """

    snapshot: Snapshot | None
    revision: int
    findings: tuple[Finding, ...] = ()
    news: tuple[Finding, ...] = ()
    stale_files: tuple[str, ...] = ()
    denying_files: tuple[str, ...] = ()
    endpoints_known: bool = True

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)


class PolicyStore:
    """Policies and endpoints as of the last `refresh`. Not for two threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[Path, PolicyFile] = {}
        """In the order of their paths."""
        self._paths: dict[str, Path] = {}
        self._objects = Objects()
        self._troubled: set[Path] = set()
        """Files that are stale or denying."""
        self._secret_users: set[Path] = set()
        self._folder_findings: tuple[Finding, ...] = ()
        self._folder_known = False
        self._endpoints = EndpointsFile()
        self._endpoints_digest: bytes | None = None
        self._endpoints_findings: tuple[Finding, ...] = ()
        self._endpoints_good = settings.endpoints_file is None
        self._references = References()
        self._secrets_findings: tuple[Finding, ...] = ()
        self._resolver = Resolver(settings)
        self._resolved: tuple[EndpointsFile, References] | None = None
        self._revision = 0
        self._changed: dict[Path, PolicyFile | None] = {}
        """What this look found changed: path → what the file was before."""
        self._file_findings: tuple[Finding, ...] = ()
        self._other_findings: tuple[Finding, ...] = ()

    def refresh(self, only: Collection[Path] | None = None) -> Refresh:
        """Reads what changed and resolves it. Never raises for what files contain.

        `only`: nothing else changed, as far as is known. Then the folder is not listed, if these are all policy files.
        """
        self._changed = {}
        if only is None or not self._read_these(only):
            self._read_folder()
        self._read_endpoints()
        self._update_references()
        self._read_secrets()
        snapshot = self._resolve()
        stale = [str(path) for path in sorted(self._troubled) if self._files[path].is_stale]
        denying = [str(path) for path in sorted(self._troubled) if not self._files[path].is_stale]
        if has_errors(self._endpoints_findings) and self._endpoints_good:
            stale.append(str(self._settings.endpoints_file))
        if self._folder_findings:
            (stale if self._folder_known else denying).append(str(self._settings.policy_dir))
        other = (
            *self._folder_findings,
            *self._objects.doubles(),
            *self._endpoints_findings,
            *self._secrets_findings,
            *self._missing_secrets(),
        )
        news = self._news(other)
        self._other_findings = other
        if self._changed:
            self._file_findings = tuple(chain.from_iterable(file.findings for file in self._files.values()))
        return Refresh(
            snapshot=snapshot,
            revision=self._revision,
            findings=(*other, *self._file_findings),
            news=news,
            stale_files=tuple(stale),
            denying_files=tuple(denying),
            endpoints_known=self._endpoints_good,
        )

    def documents(self) -> tuple[Document, ...]:
        """Those in force, in a stable order."""
        return self._objects.in_force()

    def selections(self) -> list[Selection]:
        """Whom the peers of the policies mean that were resolved last."""
        return self._resolver.selections()

    def _news(self, other: tuple[Finding, ...]) -> tuple[Finding, ...]:
        known, now = set(self._other_findings), set(other)
        for path, before in self._changed.items():
            known.update(before.findings if before else ())
            now.update(self._files[path].findings if path in self._files else ())
        return tuple(sorted(now - known))

    def _update_references(self) -> None:
        before = (file for file in self._changed.values() if file is not None)
        after = (self._files[path] for path in self._changed if path in self._files)
        if any(file.objects for file in chain(before, after)):
            objects = chain.from_iterable(file.objects for file in self._files.values())
            self._references = references_of(objects, self._references.secrets)

    def _read_secrets(self) -> None:
        if self._settings.secrets_dir is None:
            return
        found = read_secrets(self._settings.secrets_dir)
        self._secrets_findings = found.findings
        if found.values != self._references.secrets:
            self._references = replace(self._references, secrets=found.values)

    def _missing_secrets(self) -> Iterable[Finding]:
        for path in sorted(self._secret_users):
            for secret, line in self._files[path].secrets:
                if secret not in self._references.secrets:
                    message = f"the secret {secret} is not there"
                    yield make_finding(codes.SECRET_MISSING, str(path), message, line=line, column=1)

    def _resolve(self) -> Snapshot | None:
        """A new revision if anything in force is different."""
        if not self._endpoints_good:
            return None
        changes = self._objects.take_changes()
        content = (self._endpoints, self._references)
        if not changes and content == self._resolved:
            return None
        snapshot = self._resolver.change(changes, self._endpoints, self._references, self._revision + 1)
        self._resolved, self._revision = content, self._revision + 1
        return snapshot

    # Policy files

    def _read_these(self, paths: Collection[Path]) -> bool:
        """False if they are not all policy files of the folder, so that more may have changed."""
        folder = self._settings.policy_dir
        if folder is None or not self._folder_known or self._folder_findings:
            return False
        # Endpoints and secrets are looked at in any case.
        policies = [path for path in paths if path.is_relative_to(folder) and not _is_passing(path)]
        if not all(is_policy_file(path, folder) for path in policies):
            return False
        for path in policies:
            self._read_policy_file(path)
        self._sort(policies)
        return True

    def _read_folder(self) -> None:
        folder = self._settings.policy_dir
        self._folder_findings = ()
        if folder is None:
            return
        try:
            names = [str(folder)] if folder.is_file() else policy_file_names(folder)
        except OSError as problem:
            message = f"the folder cannot be listed: {problem.strerror}"
            self._folder_findings = (make_finding(codes.FILE_UNREADABLE, str(folder), message),)
            if not self._folder_known:
                self._objects.replace(folder, (stand_in((Lockdown(deny=True),), str(folder)),))
            return
        if not self._folder_known:
            self._objects.replace(folder, ())
        self._folder_known = True
        paths = [self._paths.get(name) or Path(name) for name in names]
        self._paths = dict(zip(names, paths, strict=True))
        for name, path in self._paths.items():
            known = self._files.get(path)
            if known is None or known.mark is None or known.mark != _mark(name):
                self._read_policy_file(path)
        for path in set(self._files) - set(paths):
            self._forget(path)
        self._sort(self._changed)

    def _sort(self, paths: Iterable[Path]) -> None:
        if any(self._changed.get(path, True) is None for path in paths):
            self._files = {path: self._files[path] for path in sorted(self._files)}

    def _read_policy_file(self, path: Path) -> None:
        known = self._files.get(path)
        mark = _mark(str(path))
        data = read_file(path)
        if isinstance(data, Finding) and not os.path.lexists(path):
            # Gone since the folder was listed.
            self._forget(path)
            return
        if isinstance(data, Finding):
            unreadable = LoadedFile(str(path), findings=(data,), lockdowns=(Lockdown(deny=True),))
            if known is None or known.latest != unreadable:
                self._keep(path, policy_file(b"", None, unreadable, known.good if known else None))
            return
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if known is not None and known.digest == digest:
            self._files[path] = replace(known, mark=mark)
            return
        latest = parse_file(data, str(path))
        before = known.good if known else None
        if before is not None and before.documents and latest.ok and not latest.summaries:
            # A writer that does not replace the file empties it first.
            emptied = make_finding(codes.DOC_EMPTIED, str(path), codes.DOC_EMPTIED.title)
            self._keep(path, policy_file(digest, mark, replace(latest, findings=(emptied,)), before))
            return
        self._keep(path, policy_file(digest, mark, latest, latest if latest.ok else before))

    def _keep(self, path: Path, file: PolicyFile) -> None:
        self._changed.setdefault(path, self._files.get(path))
        self._objects.replace(path, file.in_force)
        self._files[path] = file
        (self._troubled.discard if file.good is file.latest else self._troubled.add)(path)
        (self._secret_users.add if file.secrets else self._secret_users.discard)(path)

    def _forget(self, path: Path) -> None:
        if path in self._files:
            self._changed.setdefault(path, self._files.pop(path))
            self._objects.replace(path, ())
            self._troubled.discard(path)
            self._secret_users.discard(path)

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


def _is_passing(path: Path) -> bool:
    """A hidden file, as editors write them before they rename them. Two dots are the versions of a ConfigMap."""
    return path.name.startswith(".") and not path.name.startswith("..") and not path.is_dir()


def _mark(path: str) -> object:
    """Changes whenever the file does; None if that cannot be relied on."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - status.st_ctime_ns < _SETTLED_NS:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
