"""Where a lint's finding stands in its file, and which codes the policy there does not want to hear.

The rules that lints look at know their lines only. So a file with findings is read once more, for the places of its
values and for the annotation `policy.penstock.io/ignore: "CNP320,CNP325"`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.findings import Finding, ValuePath, make_finding
from config.policy.lint.view import Note
from config.text import read_file
from config.yaml_values import Place, Value, read_documents

IGNORE = "policy.penstock.io/ignore"


@dataclass(frozen=True, slots=True)
class _Object:
    place: Place
    name: str
    ignored: frozenset[str]


def _begin(item: _Object) -> tuple[int, int]:
    return item.place.line, item.place.column


class Source:
    """One file, read again. What cannot be read any more has no places."""

    def __init__(self, path: Path) -> None:
        data = read_file(path)
        documents = [] if isinstance(data, Finding) else read_documents(data)[0]
        objects = [item for document in documents for item in _objects(document.value, document.place)]
        self._by_name = {(item.place.line, item.name): item for item in objects}
        self._by_begin = sorted(objects, key=_begin)

    def locate(self, note: Note) -> Finding:
        document = note.document
        known = self._by_name.get((document.line, document.name))
        path, place = (note.path, Place(note.line, 1)) if known is None else _follow(known.place, note.path)
        return make_finding(note.code, document.file, note.message, line=place.line, column=place.column, path=path)

    def is_ignored(self, finding: Finding) -> bool:
        """Errors never are."""
        before = bisect_right(self._by_begin, (finding.line, finding.column), key=_begin)
        return not finding.is_error and before > 0 and finding.code in self._by_begin[before - 1].ignored


def _objects(value: Value, place: Place) -> Iterator[_Object]:
    """What a document holds: itself, or the items of a list."""
    if not isinstance(value, dict):
        return
    items, inside = value.get("items"), place.items.get("items")
    if isinstance(items, list) and inside is not None and str(value.get("kind")).endswith("List"):
        for index, item in enumerate(items):
            yield from _objects(item, inside.items[index])
        return
    metadata = value.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    annotations = known.get("annotations")
    text = annotations.get(IGNORE) if isinstance(annotations, dict) else None
    yield _Object(place, str(known.get("name")), frozenset(re.findall(r"\w+", text if isinstance(text, str) else "")))


def _follow(place: Place, path: ValuePath) -> tuple[ValuePath, Place]:
    """As far as the path leads."""
    for depth, item in enumerate(path):
        inside = place.items.get(item)
        if inside is None:
            return path[:depth], place
        place = inside
    return path, place


def findings_of(path: Path, notes: Iterable[Note], found: Iterable[Finding]) -> list[Finding]:
    """`notes` about this file as findings, and those `found` before, without what the policies ignore."""
    source = Source(path)
    return sorted(item for item in {*found, *map(source.locate, notes)} if not source.is_ignored(item))
