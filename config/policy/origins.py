"""Numbers of rules: what the kernel's rows and flow records name an entry by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from config.identity import Numbering
from config.policy.compile import DocumentKey, OriginName, Unit
from config.policy.resolved import Origin

PENSTOCK = "Penstock"

_FIRST, _LAST = 16, (1 << 31) - 1
"""Rule ids are hashes of what they name, so that a changed policy leaves other rows of the kernel's map alone."""

HOST_ACCESS = Origin(1, PENSTOCK, "", "allow-localhost", "")
DEFAULT_ALLOW = Origin(2, PENSTOCK, "", "default-allow", "")


class Origins:
    """All entries of all documents."""

    def __init__(self) -> None:
        self.by_name: dict[OriginName, Origin] = {}
        self.by_id: Mapping[int, Origin] = {origin.id: origin for origin in (HOST_ACCESS, DEFAULT_ALLOW)}
        self._numbering = Numbering(_FIRST, _LAST, "origin")

    def update(self, added: Iterable[Unit], removed: Iterable[Unit]) -> set[DocumentKey]:
        """The documents that have entries with another number than before."""
        gone = {_text(name): name for unit in removed for name, _, _ in unit.entries()}
        new: dict[str, tuple[OriginName, str, int, str]] = {}
        for unit in added:
            for name, line, log in unit.entries():
                new.setdefault(_text(name), (name, unit.document.file, line, log))
        if not gone and not new:
            return set()
        moved = self._numbering.update(new, gone.keys() - new.keys())
        by_id = dict(self.by_id)
        for text, name in gone.items():
            del by_id[self.by_name[name].id]
            if text not in new:
                del self.by_name[name]
        for text, (name, file, line, log) in new.items():
            origin = self.by_name[name] = Origin(self._numbering.numbers[text], *name, file, line, log)
            by_id[origin.id] = origin
        self.by_id = by_id
        return self._move(moved - new.keys()) if moved else set()

    def _move(self, texts: Iterable[str]) -> set[DocumentKey]:
        """Two hashes met, so that these names have other numbers now."""
        names = [name for text in texts if (name := _name(text)) in self.by_name]
        for name in names:
            old = self.by_name[name]
            self.by_name[name] = Origin(self._numbering.numbers[_text(name)], *name, old.file, old.line, old.log)
        own = {number: origin for number, origin in self.by_id.items() if not origin.file}
        self.by_id = own | {origin.id: origin for origin in self.by_name.values()}
        return {name[:3] for name in names}


def _text(name: OriginName) -> str:
    return "\0".join(name)


def _name(text: str) -> OriginName:
    kind, namespace, name, rule = text.split("\0")
    return kind, namespace, name, rule
