"""What lints look at: all entries of all documents, by whom they are about, and the endpoints if they are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from config.endpoints import EndpointsFile
from config.findings import Code, PathItem, ValuePath
from config.policy.lint.covers import PeerTable, SelectorTable
from config.policy.references import References
from config.policy.resolved import Direction, L7Kind, L7Rule, Snapshot, kind_of
from config.policy.rules import Document, Entry, Peer, PolicyRule, PortSpec
from config.policy.selectors import Selector
from config.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One entry, and to which rule of which document it belongs."""

    document: Document
    rule: PolicyRule
    entry: Entry

    @property
    def name(self) -> str:
        """The entry in words: `shop/web ingress[0] (web.yaml:7)`."""
        document, entry = self.document, self.entry
        owner = f"{document.namespace}/{document.name}" if document.namespace else document.name
        return f"{owner} {entry.name} ({document.file}:{entry.line})"

    @property
    def path(self) -> ValuePath:
        return entry_path(self.entry.name)

    @property
    def selects_nobody(self) -> bool:
        return self.entry.peers == ()

    @property
    def refuses(self) -> bool:
        """Is what the entry does not allow refused? Otherwise its L7 rules have no effect."""
        return self.rule.default_deny[self.entry.direction]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One `toPorts` item of an entry, or the whole entry if it has none (`number` None)."""

    item: Item
    number: int | None
    ports: tuple[PortSpec, ...] | None
    l7: tuple[L7Rule, ...] | None

    @property
    def path(self) -> ValuePath:
        return self.item.path if self.number is None else (*self.item.path, "toPorts", self.number)

    @property
    def peers(self) -> tuple[Peer, ...] | None:
        return self.item.entry.peers


@dataclass(frozen=True, slots=True)
class Note:
    """What a lint found. `path` leads from the top of the document to the value that is meant."""

    code: Code
    document: Document
    path: ValuePath
    message: str
    line: int
    """Where to point if the path cannot be followed."""


def note(code: Code, about: Item | Part, message: str, *more: PathItem) -> Note:
    """About an entry, a part of it, or what `more` leads to from there."""
    item = about if isinstance(about, Item) else about.item
    return Note(code, item.document, (*about.path, *more), message, item.entry.line)


def rule_note(code: Code, document: Document, index: int, message: str, *more: PathItem) -> Note:
    """About one rule of a document."""
    return Note(code, document, (*rule_path(document, index), *more), message, document.line)


def rule_path(document: Document, index: int) -> ValuePath:
    """`spec`, or one of `specs`, as the names of its entries say; without entries one cannot tell the two apart."""
    rule = document.rules[index]
    if rule.entries:
        return entry_path(rule.entries[0].name)[:-2]
    return ("spec",) if len(document.rules) == 1 else ("specs", index)


def entry_path(name: str) -> ValuePath:
    """`ingress[0]` → `("spec", "ingress", 0)`, `specs[1].ingress[0]` → `("specs", 1, "ingress", 0)`."""
    path: list[PathItem] = [] if name.startswith("specs[") else ["spec"]
    for piece in name.split("."):
        key, _, index = piece.partition("[")
        path.append(key)
        if index:
            path.append(int(index.removesuffix("]")))
    return tuple(path)


Table = PeerTable[Part]


@dataclass(slots=True)
class _Tables:
    """What rules with one subject say in one direction."""

    plain: Table = field(default_factory=PeerTable)
    inspecting: dict[L7Kind, Table] = field(default_factory=dict)
    denying: Table = field(default_factory=PeerTable)


class View:
    """`endpoints` are None unless they were given; then all of them count as local."""

    def __init__(
        self,
        documents: Sequence[Document],
        references: References | None = None,
        endpoints: EndpointsFile | None = None,
    ) -> None:
        self.documents = documents
        self.references = references or References()
        self.endpoints = endpoints
        self.items = tuple(_items(documents))
        self.parts = tuple(part for item in self.items for part in _parts(item))
        self._tables: defaultdict[tuple[Selector, Direction], _Tables] = defaultdict(_Tables)
        self._subjects = SelectorTable()
        self._covering: dict[Selector, tuple[Selector, ...]] = {}
        for part in self.parts:
            self._file(part)

    def _file(self, part: Part) -> None:
        item = part.item
        tried_out = item.entry.deny and item.rule.audit
        if item.selects_nobody or part.ports == () or tried_out:
            return
        self._subjects.add(item.rule.subject)
        tables = self._tables[item.rule.subject, item.entry.direction]
        if item.entry.deny:
            table = tables.denying
        elif part.l7:
            table = tables.inspecting.setdefault(kind_of(part.l7[0]), PeerTable())
        else:
            table = tables.plain
        table.add(item.entry.peers, part.ports, part)

    @cached_property
    def snapshot(self) -> Snapshot | None:
        """What is enforced for the endpoints."""
        if self.endpoints is None:
            return None
        from config.policy.resolve import resolve

        return resolve(self.documents, self.endpoints, Settings(), 1, self.references)

    def covering(self, subject: Selector) -> tuple[Selector, ...]:
        """Subjects of rules that are about all whom `subject` selects, itself included."""
        found = self._covering.get(subject)
        if found is None:
            found = self._covering[subject] = tuple(self._subjects.covering(subject))
        return found

    def plain(self, item: Item) -> Iterator[Table]:
        """Allow rules without L7 rules that are about all whom the item is about."""
        return (tables.plain for tables in self._beside(item))

    def of_other_kinds(self, item: Item, kind: L7Kind) -> Iterator[Table]:
        """Rules with L7 rules of another kind."""
        return (table for tables in self._beside(item) for key, table in tables.inspecting.items() if key is not kind)

    def denying(self, item: Item) -> Iterator[Table]:
        return (tables.denying for tables in self._beside(item))

    def _beside(self, item: Item) -> Iterator[_Tables]:
        for subject in self.covering(item.rule.subject):
            tables = self._tables.get((subject, item.entry.direction))
            if tables is not None:
                yield tables


def _items(documents: Iterable[Document]) -> Iterator[Item]:
    for document in documents:
        for rule in document.rules:
            for entry in rule.entries:
                yield Item(document, rule, entry)


def _parts(item: Item) -> Iterator[Part]:
    if item.entry.port_rules is None:
        yield Part(item, None, None, None)
        return
    for number, port_rule in enumerate(item.entry.port_rules):
        yield Part(item, number, port_rule.ports, port_rule.l7)
