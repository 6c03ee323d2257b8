"""Policy files over time, and the objects of all of them: of each what is in force."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config import codes
from config.findings import Finding, make_finding
from config.policy.compile import DocumentKey
from config.policy.load import LoadedFile, duplicates
from config.policy.lockdown import stand_in
from config.policy.resolved import HttpRule
from config.policy.rules import Document, Referenced


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One policy file: what it says now, and what it said when it was last whole.

    `mark` is what the file system says of it; the content is read again when that is another one. None: always.
    `secrets` are those that rules cannot do without, with the lines of their entries.
    """

    digest: bytes
    mark: object
    latest: LoadedFile
    good: LoadedFile | None
    in_force: tuple[Document, ...]
    findings: tuple[Finding, ...]
    secrets: tuple[tuple[str, int], ...]

    @property
    def is_stale(self) -> bool:
        return self.good is not None and self.good is not self.latest

    @property
    def objects(self) -> tuple[Referenced, ...]:
        return (self.good or self.latest).objects


def policy_file(digest: bytes, mark: object, latest: LoadedFile, good: LoadedFile | None) -> PolicyFile:
    findings = latest.findings
    if not latest.ok:
        code = codes.DOC_STALE if good else codes.DOC_LOCKED
        findings = tuple(sorted({*findings, make_finding(code, latest.path, code.title)}))
    in_force = good.documents if good else (*latest.documents, stand_in(latest.lockdowns, latest.path))
    return PolicyFile(digest, mark, latest, good, in_force, findings, tuple(dict.fromkeys(_secrets_of(in_force))))


def _secrets_of(documents: Iterable[Document]) -> Iterable[tuple[str, int]]:
    for document in documents:
        for rule in document.rules:
            for entry in rule.entries:
                for port_rule in entry.port_rules or ():
                    for item in port_rule.l7 or ():
                        if isinstance(item, HttpRule):
                            yield from (
                                (match.secret, entry.line) for match in item.header_matches if not match.is_known
                            )


class Objects:
    """Documents by the object that they are about. Of several the first by file and line is in force."""

    def __init__(self) -> None:
        self._all: dict[DocumentKey, list[Document]] = {}
        self._by_path: dict[Path, tuple[Document, ...]] = {}
        self._several: set[DocumentKey] = set()
        self._changed: set[DocumentKey] = set()
        self._taken: dict[DocumentKey, Document] = {}

    def replace(self, path: Path, documents: tuple[Document, ...]) -> None:
        """This is what the file says now."""
        for document in self._by_path.pop(path, ()):
            self._all[document.key].remove(document)
            self._touch(document.key)
        for document in documents:
            self._all.setdefault(document.key, []).append(document)
            self._touch(document.key)
        if documents:
            self._by_path[path] = documents

    def _touch(self, key: DocumentKey) -> None:
        self._changed.add(key)
        known = self._all[key]
        if len(known) > 1:
            known.sort(key=lambda document: (document.file, document.line))
        (self._several.add if len(known) > 1 else self._several.discard)(key)
        if not known:
            del self._all[key]

    def take_changes(self) -> dict[DocumentKey, Document | None]:
        """What is in force now, of objects for which that is something else than at the last call."""
        changes: dict[DocumentKey, Document | None] = {}
        for key in self._changed:
            before, now = self._taken.get(key), self._all[key][0] if key in self._all else None
            if before is not now and before != now:
                changes[key] = now
            if now is None:
                self._taken.pop(key, None)
            else:
                self._taken[key] = now
        self._changed.clear()
        return changes

    def in_force(self) -> tuple[Document, ...]:
        return tuple(self._all[key][0] for key in sorted(self._all))

    def doubles(self) -> Iterable[Finding]:
        several = [document for key in self._several for document in self._all[key]]
        return (finding for _, finding in duplicates((LoadedFile("", tuple(several)),)))
